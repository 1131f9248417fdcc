"""τ-normalisation: the classifier's weight vectors are brought towards equal length."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from trainable.posthoc._base import POSTHOC, Classifier, Correction, FittedCorrection

SMALLEST_NORM = 1e-12


@POSTHOC.add
class TauNorm(FittedCorrection):
    """The logits of weights w/‖w‖^τ: classes with many images have grown longer weights than rare ones.

    Suggested: `tau: null`, which fits τ in [0, 1]. No training. At τ > 0 the bias is dropped, as in the
    paper. Caution: where norms do not follow the counts (strong weight decay, adaptive optimizers) there is
    little to gain. Deviations: all factors are divided by their geometric mean, which changes no prediction and
    keeps the logits at their scale; at τ = 0 the network is left as it is, its bias included.
    """

    name: Literal["tau_norm"] = "tau_norm"
    reference: ClassVar[str] = "Kang et al. 2020, arXiv 1910.09217, section 4 (τ-normalized classifier)"
    strengths: ClassVar[tuple[float, ...]] = tuple(step / 20 for step in range(21))
    needs_bias: ClassVar[bool] = False

    def correction(self, tau: float, classifier: Classifier) -> Correction:
        """Return the factors ‖w‖^(−τ), and offsets that cancel the bias."""
        if tau == 0.0:
            return Correction(np.ones_like(classifier.norms), np.zeros_like(classifier.norms))
        log_norms = np.log(np.maximum(classifier.norms, SMALLEST_NORM))
        scale = np.exp(-tau * (log_norms - log_norms.mean()))
        return Correction(scale, -scale * classifier.bias)

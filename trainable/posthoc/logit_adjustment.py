"""Post-hoc logit adjustment: the prior is taken out of a finished network's logits."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from trainable.posthoc._base import POSTHOC, Classifier, Correction, FittedCorrection


@POSTHOC.add
class PostHocLogitAdjustment(FittedCorrection):
    """z − τ log π, π being the class prior that the network was trained under.

    Suggested: `tau: null`, which fits τ; 1 is the paper's, consistent for the balanced error. No training.
    π is the batch sampler's *effective* prior: under balanced sampling nothing is left to adjust. Cautions: the
    loss `logit_adjustment` does the same in training, and both correct twice; probabilities become those of a
    world in which all classes are alike. Deviation: a class without training images counts as half an image.
    """

    name: Literal["logit_adjustment"] = "logit_adjustment"
    reference: ClassVar[str] = "Menon et al. 2021, arXiv 2007.07314 (post-hoc logit adjustment)"
    strengths: ClassVar[tuple[float, ...]] = tuple(step / 10 for step in range(21))
    needs_bias: ClassVar[bool] = True

    def correction(self, tau: float, classifier: Classifier) -> Correction:
        """Return the offsets −τ log π about their mean, which changes no prediction."""
        log_prior = np.log(np.maximum(classifier.class_prior, classifier.smallest_prior))
        return Correction(np.ones_like(log_prior), -tau * (log_prior - log_prior.mean()))

"""Label-distribution-aware margins: the rarer the class, the wider its margin."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainable.component import Range
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction


@LOSSES.add
class Ldam(Loss):
    """Cross-entropy of s·(z − Δ) with a margin Δ_y ∝ n_y^(−1/4) taken from the target's logit.

    With `effective_number` class weights at `defer: 0.8` it is the paper's LDAM-DRW, which counts as one
    correction; with weights from the start, or resampling, it is two. Suggested: with that deferral, a margin
    of 1 to 4. Deviations: the paper's classifier is normalised (z are cosines in [−1, 1], hence its s = 30
    and margin 0.5); here the network's own linear classifier stays, whose logits find their scale themselves,
    so that s is 1 and the margin counts in logits. Caution: on such a classifier the paper's s = 30 does not
    train at all (macro-F1 0.03, where s = 1 reaches 0.87, on a long tail of digits). A class without training
    images gets the widest margin.
    """

    name: Literal["ldam"] = "ldam"
    reference: ClassVar[str] = "Cao et al. 2019, arXiv 1906.07413, equations 12 and 13"
    corrects_imbalance: ClassVar[bool] = True
    pairs_with_deferred_weights: ClassVar[bool] = True
    max_margin: Annotated[float, Field(ge=0.0, le=100.0), Range(0.5, 6.0, log=True)] = 2.0
    """Margin of the rarest class, in logits before scaling."""
    scale: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """s: the factor on logits and margins; above 1 only for a classifier with bounded logits."""

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss with margins from `context.class_counts`."""
        return LdamLoss(margins(context.class_counts, self.max_margin), self.scale)


def margins(class_counts: NDArray[np.int64], max_margin: float) -> NDArray[np.float64]:
    """Return Δ `(C,)` ∝ n^(−1/4), scaled so that the rarest class that occurs has `max_margin`."""
    present = class_counts[class_counts > 0]
    counts = np.maximum(class_counts, present.min()).astype(np.float64)
    wide: NDArray[np.float64] = max_margin * (present.min() / counts) ** 0.25
    return wide


class LdamLoss(LossFunction):
    """L = −log softmax(s·(z − Δ_y·1_y))_y."""

    margins: Tensor

    def __init__(self, margins: NDArray[np.float64], scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("margins", torch.as_tensor(margins, dtype=torch.float32), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        own = functional.one_hot(targets, logits.shape[1]) * self.margins
        return functional.cross_entropy(self.scale * (logits.float() - own), targets, reduction="none")

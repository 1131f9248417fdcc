"""Cross-entropy against smoothed labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainable.component import Range
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction


@LOSSES.add
class LabelSmoothing(Loss):
    """Cross-entropy against (1−ε) on the target class plus ε/C on every class.

    Suggested: 0.1. Keeps logits from growing and helps calibration. Caution: ε/C is as large for a class
    with ten images as for one with ten thousand, so that with many classes a strong smoothing hides the
    rare ones; with Mixup or CutMix, which soften targets as well, less is needed.
    """

    name: Literal["label_smoothing"] = "label_smoothing"
    reference: ClassVar[str] = "Szegedy et al. 2016, arXiv 1512.00567, section 7"
    epsilon: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.02, 0.2)] = 0.1
    """Probability taken from the target and spread evenly over all classes; 0 is cross-entropy."""

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss; the data do not matter."""
        return LabelSmoothingLoss(self.epsilon)


class LabelSmoothingLoss(LossFunction):
    """L = −(1−ε) log p_y − (ε/C) Σ_j log p_j."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        return functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=self.epsilon)

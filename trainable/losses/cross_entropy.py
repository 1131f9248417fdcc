"""Cross-entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction


@LOSSES.add
class CrossEntropy(Loss):
    """Negative log-likelihood of the target class under a softmax."""

    name: Literal["cross_entropy"] = "cross_entropy"
    reference: ClassVar[str] = "Goodfellow, Bengio & Courville 2016, Deep Learning, section 6.2.2"

    def build(self, context: LossContext) -> LossFunction:
        """Return plain cross-entropy; the data do not matter."""
        return CrossEntropyLoss()


class CrossEntropyLoss(LossFunction):
    """L = −log softmax(z)_y."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        return functional.cross_entropy(logits.float(), targets, reduction="none")

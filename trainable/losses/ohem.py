"""Online hard example mining: only the hardest images of a batch train the model."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trainable.component import Range
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction
from trainable.losses.cross_entropy import CrossEntropyLoss


@LOSSES.add
class Ohem(Loss):
    """Mean cross-entropy of the hardest share of the batch; the other images get no gradient.

    Suggested: 0.5 to 0.8. It takes neither mixed targets (a mixed image is always hard, so that mixing would
    decide what is kept) nor class weights (the ranking would be by weight). Cautions: mislabelled images are
    always kept; with `accumulate` above 1 the hardest of each micro-batch are kept. Deviation: the paper
    mines regions within an image, here images are mined within a batch.
    """

    name: Literal["ohem"] = "ohem"
    reference: ClassVar[str] = "Shrivastava, Gupta & Girshick 2016, arXiv 1604.03540, section 4"
    accepts_class_weights: ClassVar[bool] = False
    accepts_mixed_targets: ClassVar[bool] = False
    keep: Annotated[float, Field(gt=0.0, le=1.0), Range(0.3, 0.9)] = 0.7
    """Share of the batch that is kept, rounded up to whole images; 1 is cross-entropy."""

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss; the data do not matter."""
        return OhemLoss(self.keep)


class OhemLoss(CrossEntropyLoss):
    """Cross-entropy whose reduction is the mean of the largest ⌈keep·B⌉ values."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def reduce(self, per_image: Tensor) -> Tensor:
        """Return the mean of the hardest share of `per_image` `(B,)`."""
        kept = math.ceil(round(self.keep * len(per_image), 6))
        return per_image.topk(kept).values.mean()

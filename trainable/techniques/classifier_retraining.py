"""Two stages: the whole network first, then a new classifier on its frozen features."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.component import Range
from trainable.techniques._base import Technique, switchable

CLASSIFIER_RETRAINING = switchable("classifier_retraining")


@CLASSIFIER_RETRAINING.add
class Crt(Technique):
    """In the last `share` of the epochs a re-initialised classifier alone is trained, classes drawn evenly.

    The second stage has plain cross-entropy, a class-balanced sampler, no class weights, no averaging (it
    begins with the averaged weights where there are some), a fresh optimizer, and the schedule once more
    from its beginning at `lr_factor` times the peak. The features are frozen with their batch-norm
    statistics. Augmentation and mixing stay. Suggested: natural sampling in the first stage, share 0.1 to
    0.3. Caution: the trial's epoch is chosen among those of both stages, unless `select: last`.
    """

    name: Literal["crt"] = "crt"
    reference: ClassVar[str] = "Kang et al. 2020, arXiv 1910.09217, section 4.2 (cRT)"
    share: Annotated[float, Field(gt=0.0, lt=1.0), Range(0.1, 0.4)] = 0.2
    """Of the epochs, rounded, at least one."""
    lr_factor: Annotated[float, Field(gt=0.0, le=10.0), Range(0.1, 1.0, log=True)] = 1.0
    """Of the optimizer's peak learning rate."""

    def first_epochs(self, num_epochs: int) -> int:
        """Return how many of `num_epochs` the first stage has."""
        return num_epochs - max(1, round(self.share * num_epochs))

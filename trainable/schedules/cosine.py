"""Cosine annealing."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.component import Range
from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule


@SCHEDULES.add
class Cosine(Schedule):
    """Half a cosine from the peak to `min_factor` of it, without restarts.

    Suggested: with a warm-up of one or two epochs for fine-tuning and for large batches.
    """

    name: Literal["cosine"] = "cosine"
    reference: ClassVar[str] = "Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5"
    min_factor: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.1)] = 0.0
    """Where it ends, as a share of the peak: the lowest learning rate divided by `optimizer.lr`."""

    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""
        return CosineLr(total_steps, steps_per_epoch, self.min_factor)


class CosineLr(LrSchedule):
    """Half a cosine over `total_steps`; the lowest value would be that of the step after the last."""

    def __init__(self, total_steps: int, steps_per_epoch: int, min_factor: float) -> None:
        super().__init__(total_steps, steps_per_epoch)
        self.min_factor = min_factor

    def factor(self, step: int) -> float:
        """Return the cosine's value at `step`."""
        return (
            self.min_factor
            + (1.0 - self.min_factor) * (1.0 + math.cos(math.pi * step / self.total_steps)) / 2.0
        )

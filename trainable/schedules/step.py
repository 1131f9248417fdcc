"""Steps down at fixed moments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainable.component import Range
from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule


@SCHEDULES.add
class Step(Schedule):
    """Multiply by `gamma` at each milestone, or every so many epochs; both count from the warm-up's end."""

    name: Literal["step"] = "step"
    gamma: Annotated[float, Field(gt=0.0, lt=1.0), Range(0.05, 0.5, log=True)] = 0.1
    """Factor of each reduction."""
    milestones: tuple[Annotated[float, Field(gt=0.0, lt=1.0)], ...] = (0.5, 0.75)
    """When to reduce, as shares of the training; they fall with the number of epochs."""
    every_epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Reduce at each multiple of this number of epochs instead of at `milestones`."""

    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""
        if self.every_epochs is None:
            moments = tuple(round(share * total_steps) for share in self.milestones)
        else:
            every = self.every_epochs * steps_per_epoch
            moments = tuple(range(every, total_steps, every))
        return StepLr(total_steps, steps_per_epoch, moments, self.gamma)


class StepLr(LrSchedule):
    """gamma to the power of the moments passed.

    Args:
        total_steps: Optimizer steps after the warm-up.
        steps_per_epoch: Optimizer steps an epoch.
        moments: The first step of each lower level.
        gamma: Factor of each reduction.
    """

    def __init__(self, total_steps: int, steps_per_epoch: int, moments: tuple[int, ...], gamma: float) -> None:
        super().__init__(total_steps, steps_per_epoch)
        self.moments, self.gamma = moments, gamma

    def factor(self, step: int) -> float:
        """Return gamma to the power of the moments up to `step`."""
        return float(self.gamma ** sum(step >= moment for moment in self.moments))

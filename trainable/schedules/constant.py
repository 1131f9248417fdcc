"""A constant learning rate."""

from __future__ import annotations

from typing import Literal

from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule


@SCHEDULES.add
class Constant(Schedule):
    """The peak learning rate throughout."""

    name: Literal["constant"] = "constant"

    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""
        return ConstantLr(total_steps, steps_per_epoch)


class ConstantLr(LrSchedule):
    """A factor of 1."""

    def factor(self, step: int) -> float:
        """Return 1."""
        return 1.0

"""The one-cycle policy."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.component import Range
from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule


@SCHEDULES.add
class OneCycle(Schedule):
    """Up to the peak and down below the start, momentum the other way; two cosine phases, as torch's.

    It is a warm-up itself, so that the range of `warmup_epochs` is pinned to 0 here; one that is asked for
    leads up to the cycle's own first value.
    """

    name: Literal["one_cycle"] = "one_cycle"
    reference: ClassVar[str] = "Smith and Topin 2018, arXiv 1708.07120, section 3 (phases and cosine: torch's)"
    warmup_epochs: Annotated[float, Field(ge=0.0, le=1000.0)] = 0.0
    """Epochs of linear warm-up before the cycle."""
    pct_start: Annotated[float, Field(ge=0.0, le=1.0), Range(0.05, 0.4)] = 0.3
    """Share of the steps that go up."""
    div_factor: Annotated[float, Field(ge=1.0, le=1e9)] = 25.0
    """The peak divided by the first learning rate."""
    final_div_factor: Annotated[float, Field(ge=1.0, le=1e9), Range(10.0, 1e4, log=True)] = 1e4
    """The first learning rate divided by the last."""
    cycle_momentum: bool = True
    """Cycle momentum (or the first beta) between the two values below; off leaves the optimizer's own."""
    base_momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.85
    """Momentum at the peak."""
    max_momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    """Momentum at both ends."""

    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""
        return OneCycleLr(total_steps, steps_per_epoch, self)


class OneCycleLr(LrSchedule):
    """Two cosine phases: up until `pct_start` of the steps, then down to the last one."""

    def __init__(self, total_steps: int, steps_per_epoch: int, config: OneCycle) -> None:
        super().__init__(total_steps, steps_per_epoch)
        self.config = config
        # The last step of each phase, counted from 0. Too few steps to go up begin at the peak.
        self.peak, self.end = max(config.pct_start * total_steps - 1.0, 0.0), total_steps - 1.0

    def factor(self, step: int) -> float:
        """Return the cycle's value at `step`."""
        first = 1.0 / self.config.div_factor
        return self._at(step, first, 1.0, first / self.config.final_div_factor)

    def momentum(self, step: int) -> float | None:
        """Return the momentum at `step`: low where the learning rate is high."""
        if not self.config.cycle_momentum:
            return None
        highest = self.config.max_momentum
        return self._at(step, highest, self.config.base_momentum, highest)

    def _at(self, step: int, start: float, middle: float, end: float) -> float:
        if step < self.peak:
            return _anneal(start, middle, step / self.peak)
        if self.end <= self.peak:
            return middle
        return _anneal(middle, end, min((step - self.peak) / (self.end - self.peak), 1.0))


def _anneal(start: float, end: float, share: float) -> float:
    """Return the value at `share` of half a cosine from `start` to `end`."""
    return end + (start - end) * (1.0 + math.cos(math.pi * share)) / 2.0

"""What a schedule is: a factor on the peak learning rate for each optimizer step, warm-up before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import Field

from trainable.component import Component, Range
from trainable.registry import Registry


class LrSchedule(ABC):
    """A schedule at work: a pure function of the step, but for what `observe` has been told.

    Args:
        total_steps: Optimizer steps after the warm-up.
        steps_per_epoch: Optimizer steps an epoch.
    """

    def __init__(self, total_steps: int, steps_per_epoch: int) -> None:
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch

    @abstractmethod
    def factor(self, step: int) -> float:
        """Return the factor on the peak learning rate, in [0, 1], for `step` (from 0, after the warm-up)."""

    def momentum(self, step: int) -> float | None:
        """Return the momentum (or first beta) for `step`, or None to leave the optimizer's own."""
        return None

    def observe(self, metric: float) -> None:
        """Take the validation metric (higher is better) of the epoch that ended."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `observe` has left behind."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class Schedule(Component, ABC):
    """Config of a learning-rate schedule."""

    name: str
    warmup_epochs: Annotated[float, Field(ge=0.0, le=1000.0), Range(0.0, 2.0)] = 0.0
    """Epochs of linear warm-up from `warmup_factor` to 1 before the schedule proper begins."""
    warmup_factor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01

    def build(self, num_epochs: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for a trial of `num_epochs`, warm-up included."""
        warmup_steps = min(round(self.warmup_epochs * steps_per_epoch), num_epochs * steps_per_epoch - 1)
        main = self.build_main(num_epochs * steps_per_epoch - warmup_steps, steps_per_epoch)
        return WarmUp(main, warmup_steps, self.warmup_factor) if warmup_steps > 0 else main

    @abstractmethod
    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""


class WarmUp(LrSchedule):
    """Linear warm-up before another schedule.

    Reference: Goyal et al. 2017, arXiv 1706.02677, section 2.2.
    """

    def __init__(self, main: LrSchedule, warmup_steps: int, start: float) -> None:
        super().__init__(main.total_steps + warmup_steps, main.steps_per_epoch)
        self.main, self.warmup_steps, self.start = main, warmup_steps, start

    def factor(self, step: int) -> float:
        """Return the warm-up's factor, then the main schedule's."""
        if step < self.warmup_steps:
            return (self.start + (1.0 - self.start) * step / self.warmup_steps) * self.main.factor(0)
        return self.main.factor(step - self.warmup_steps)

    def momentum(self, step: int) -> float | None:
        """Return the main schedule's momentum."""
        return self.main.momentum(max(0, step - self.warmup_steps))

    def observe(self, metric: float) -> None:
        """Pass the metric on."""
        self.main.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        """Return the main schedule's state."""
        return self.main.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the main schedule its state back."""
        self.main.load_state_dict(state)


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule)

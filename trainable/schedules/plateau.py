"""Reduction on a plateau of the validation metric."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from trainable.component import Range
from trainable.schedules._base import SCHEDULES, LrSchedule, Schedule


@SCHEDULES.add
class Plateau(Schedule):
    """Multiply by `factor` when the metric has not risen for more than `patience` epochs.

    As torch's `ReduceLROnPlateau` in mode `max` with a relative threshold and no cooldown, but for its
    refusal of changes below 1e-8. The metric is noisy where classes are rare: a small patience reacts to noise.
    """

    name: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0.0, lt=1.0), Range(0.1, 0.5)] = 0.1
    """Factor of each reduction."""
    patience: Annotated[int, Field(ge=0, le=10_000), Range(1, 5)] = 3
    """Epochs without improvement that are put up with; the one after them reduces."""
    threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 1e-4
    """Relative rise that counts as an improvement."""
    min_factor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Never below this share of the peak."""

    def build_main(self, total_steps: int, steps_per_epoch: int) -> LrSchedule:
        """Return the schedule for the `total_steps` that follow the warm-up."""
        return PlateauLr(total_steps, steps_per_epoch, self)


class PlateauLr(LrSchedule):
    """A factor that falls by what `observe` is told."""

    def __init__(self, total_steps: int, steps_per_epoch: int, config: Plateau) -> None:
        super().__init__(total_steps, steps_per_epoch)
        self.config = config
        self.current, self.best, self.bad_epochs = 1.0, -math.inf, 0

    def factor(self, step: int) -> float:
        """Return the factor as it stands, whatever the step."""
        return self.current

    def observe(self, metric: float) -> None:
        """Count the epoch as good or bad; reduce after one bad epoch too many."""
        if metric > self.best * (1.0 + self.config.threshold):
            self.best, self.bad_epochs = metric, 0
            return
        self.bad_epochs += 1
        if self.bad_epochs > self.config.patience:
            self.current = max(self.current * self.config.factor, self.config.min_factor)
            self.bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, the best metric and the bad epochs since."""
        return {"current": self.current, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.current, self.best, self.bad_epochs = state["current"], state["best"], state["bad_epochs"]

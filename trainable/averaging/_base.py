"""What an average of weights is: a second model that follows the first and is the one evaluated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from trainable.component import Component
from trainable.registry import Registry

CleanBatches = Callable[[], Iterable[Tensor]]
"""Gives the training images in a fixed order, normalised, not augmented: for batch-norm statistics."""


class Averager(ABC):
    """An average at work on one model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def after_step(self) -> None:
        """Follow the model after an optimizer step."""

    def after_epoch(self, epoch: int, clean_batches: CleanBatches) -> None:
        """Follow the model after `epoch` (from 0), before it is evaluated."""

    @abstractmethod
    def evaluated(self) -> nn.Module:
        """Return the model whose predictions count now: the average, or the model itself."""

    def adjust_lr(self, epoch: int, fraction: float, scheduled: float, peak: float) -> float:
        """Return the learning rate for a step at `epoch` + `fraction`, given the schedule's and the peak."""
        return scheduled

    def state_dict(self) -> dict[str, Any]:
        """Return the average, as tensors and plain numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class Averaging(Component, ABC):
    """Config of an average of weights."""

    name: str

    @abstractmethod
    def build(self, model: nn.Module, num_epochs: int, steps_per_epoch: int) -> Averager:
        """Return the average that follows `model`."""


AVERAGING: Registry[Averaging] = Registry("averaging", Averaging)

"""What a loss is, and what it is told about the data when it is built."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trainable.component import Component
from trainable.registry import Registry


@dataclass(frozen=True)
class LossContext:
    """What a loss may need to know of the training data.

    Attributes:
        class_counts: Training images per class, `(C,)`; zero where a class has none.
        class_prior: Probability of each class under the batch sampler, `(C,)`, summing to 1: the
            *effective* prior that a logit adjustment has to take.
        num_epochs: Epochs of the trial.
    """

    class_counts: NDArray[np.int64]
    class_prior: NDArray[np.float64]
    num_epochs: int


class LossFunction(nn.Module, ABC):
    """A loss at work: values per image, then one number for the batch."""

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each image, `(B,)` float32, from logits `(B, C)` and targets `(B,)` int64."""

    def reduce(self, per_image: Tensor) -> Tensor:
        """Return the batch's loss, a scalar, from the (weighted, mixed) losses `(B,)`; the mean by default."""
        return per_image.mean()

    def start_epoch(self, epoch: int, class_prior: NDArray[np.float64] | None = None) -> None:
        """Tell the loss that `epoch` (from 0) begins, for losses that change along training.

        Args:
            epoch: From 0.
            class_prior: The batch sampler's class distribution in this epoch, `(C,)`, for samplers that
                change it; None leaves the one that is known.
        """


class Loss(Component, ABC):
    """Config of a loss."""

    name: str
    accepts_class_weights: ClassVar[bool] = True
    """False where multiplying by class weights contradicts the loss's own weighting."""
    accepts_mixed_targets: ClassVar[bool] = True
    """False where λ·L(a) + (1−λ)·L(b), as Mixup and CutMix need it, has no meaning for this loss."""
    pairs_with_deferred_weights: ClassVar[bool] = False
    """True where the paper's own method is this loss and deferred class weights: one correction, not two."""

    @abstractmethod
    def build(self, context: LossContext) -> LossFunction:
        """Return the loss for the data that `context` describes."""


LOSSES: Registry[Loss] = Registry("loss", Loss)

__all__ = ["LOSSES", "Loss", "LossContext", "LossFunction"]

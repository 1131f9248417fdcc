"""What a batch sampler is: for each epoch, the indices of the training images in the order they are seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from trainable.component import Component
from trainable.registry import Registry


class IndexSampler(ABC):
    """A batch sampler at work on one training split.

    Args:
        labels: Class of each training image, `(N,)` int64.
        num_classes: C.
        num_epochs: Epochs of the trial.
        seed: With the epoch, the only source of randomness.
    """

    def __init__(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> None:
        self.labels = labels
        self.class_counts = np.bincount(labels, minlength=num_classes)
        self.num_epochs = num_epochs
        self.seed = seed

    @abstractmethod
    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return the probability `(C,)` with which `epoch` draws each class: the effective prior."""

    def image_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return the probability `(N,)` of each image in a draw of `epoch`; those of a class are alike."""
        per_class = self.class_distribution(epoch) / np.maximum(self.class_counts, 1)
        weights = per_class[self.labels]
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def epoch_indices(self, epoch: int) -> NDArray[np.int64]:
        """Return `(N,)` positions in `labels` for `epoch` (from 0), drawn with replacement.

        Equal calls give equal answers: the state is (seed, epoch), and what `observe` has been told.
        """
        drawn = np.random.default_rng([self.seed, epoch]).choice(
            len(self.labels), size=len(self.labels), p=self.image_distribution(epoch)
        )
        return drawn.astype(np.int64)

    wants_losses: bool = False
    """True where the sampler adapts: the loop then calls `observe` once after each epoch."""

    def observe(self, indices: NDArray[np.int64], losses: Tensor) -> None:
        """Take the losses `(M,)` float32 of the images at positions `indices` `(M,)` of the past epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Return what `observe` has left behind, as plain tensors and numbers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class BatchSampler(Component, ABC):
    """Config of a batch sampler."""

    name: str

    @abstractmethod
    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""


SAMPLERS: Registry[BatchSampler] = Registry("sampler", BatchSampler)

"""Natural order: every image once an epoch, shuffled."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler


@SAMPLERS.add
class Natural(BatchSampler):
    """Each image once an epoch, in random order."""

    name: Literal["natural"] = "natural"

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return NaturalSampler(labels, num_classes, num_epochs, seed)


class NaturalSampler(IndexSampler):
    """A permutation for each epoch, without replacement."""

    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return the classes' shares of the training images."""
        shares: NDArray[np.float64] = self.class_counts / self.class_counts.sum()
        return shares

    def epoch_indices(self, epoch: int) -> NDArray[np.int64]:
        """Return a permutation of `range(N)`."""
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.labels))

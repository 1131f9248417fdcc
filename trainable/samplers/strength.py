"""Resampling of any strength between natural and balanced."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainable.component import Range
from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler


@SAMPLERS.add
class Strength(BatchSampler):
    """Each image with a weight n^(−q), n being the count of its class, drawn with replacement.

    q = 0 draws classes as they come, 0.5 by the square root of their counts, 1 alike. Suggested: 0.3 to 0.7.
    Caution: strong resampling shows the few images of a rare class many times an epoch, so that they are
    memorised: combine it with strong augmentation. It counts as a correction of imbalance at any strength.
    """

    name: Literal["strength"] = "strength"
    reference: ClassVar[str] = "Kang et al. 2020, arXiv 1910.09217, equation 1 (their q is 1−q here)"
    corrects_imbalance: ClassVar[bool] = True
    strength: Annotated[float, Field(ge=0.0, le=1.0), Range(0.1, 1.0)] = 0.5
    """The exponent q."""

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return StrengthSampler(labels, num_classes, num_epochs, seed, self.strength)


class StrengthSampler(IndexSampler):
    """Draws classes in proportion to n^(1−q), and their images alike.

    Args:
        labels: Class of each training image, `(N,)` int64.
        num_classes: C.
        num_epochs: Epochs of the trial.
        seed: With the epoch, the only source of randomness.
        strength: q, in [0, 1].
    """

    def __init__(
        self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int, strength: float
    ) -> None:
        super().__init__(labels, num_classes, num_epochs, seed)
        self.strength = strength

    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return `(C,)` shares, 0 for classes without images."""
        powered = np.zeros(len(self.class_counts), dtype=np.float64)
        present = self.class_counts > 0
        powered[present] = self.class_counts[present].astype(np.float64) ** (1.0 - self.strength)
        shares: NDArray[np.float64] = powered / powered.sum()
        return shares

"""Balanced sampling: every class is drawn as often."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler
from trainable.samplers.strength import StrengthSampler


@SAMPLERS.add
class Balanced(BatchSampler):
    """Every class with the same probability, its images alike, with replacement.

    Caution: an image of a class with n images is seen N/(C·n) times an epoch, which for the rarest is often
    hundreds of times; an epoch leaves out most images of the largest classes.
    """

    name: Literal["balanced"] = "balanced"
    reference: ClassVar[str] = "Kang et al. 2020, arXiv 1910.09217, equation 1 with q = 0"
    corrects_imbalance: ClassVar[bool] = True

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return StrengthSampler(labels, num_classes, num_epochs, seed, strength=1.0)

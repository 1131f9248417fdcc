"""Square-root sampling."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler
from trainable.samplers.strength import StrengthSampler


@SAMPLERS.add
class SquareRoot(BatchSampler):
    """Every class in proportion to the square root of its count, with replacement: a mild resampling."""

    name: Literal["square_root"] = "square_root"
    reference: ClassVar[str] = "Mahajan et al. 2018, arXiv 1805.00932, section 2"
    corrects_imbalance: ClassVar[bool] = True

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return StrengthSampler(labels, num_classes, num_epochs, seed, strength=0.5)

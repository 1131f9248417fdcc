"""Class weights 1/sqrt(n)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainable.class_weights._base import CLASS_WEIGHTS, ClassWeights


@CLASS_WEIGHTS.add
class InverseSqrt(ClassWeights):
    """Weights proportional to 1/sqrt(n): half-way (on a log scale) between none and inverse frequency."""

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    reference: ClassVar[str] = "Mahajan et al. 2018, arXiv 1805.00932, section 2 (there for resampling)"

    def raw(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return n^(-1/2)."""
        return np.reciprocal(np.sqrt(counts))

"""No class weights."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainable.class_weights._base import CLASS_WEIGHTS, ClassWeights


@CLASS_WEIGHTS.add
class NoClassWeights(ClassWeights):
    """Every class weighs 1."""

    name: Literal["none"] = "none"
    corrects_imbalance: ClassVar[bool] = False

    def raw(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ones."""
        return np.ones_like(counts)

"""Class weights from the effective number of images."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainable.class_weights._base import CLASS_WEIGHTS, ClassWeights
from trainable.component import Choices


@CLASS_WEIGHTS.add
class EffectiveNumber(ClassWeights):
    """Weights proportional to (1−β)/(1−β^n): images of a class overlap, so that each further one adds less.

    β = (N−1)/N where N is the number of distinct images that a class could have. β = 0 gives uniform
    weights, β → 1 gives 1/n (the statement is sometimes found the wrong way round). Suggested: 0.999 or
    0.9999; classes with far fewer than 1/(1−β) images are weighed by 1/n, those with far more alike.
    """

    name: Literal["effective_number"] = "effective_number"
    reference: ClassVar[str] = "Cui et al. 2019, arXiv 1901.05555, section 3.2, E_n = (1-β^n)/(1-β)"
    beta: Annotated[float, Field(ge=0.0, lt=1.0), Choices((0.9, 0.99, 0.999, 0.9999))] = 0.999
    """Overlap of images, in [0, 1); the choices are the paper's."""

    def raw(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (1−β)/(1−β^n), accurate up to the largest β below 1."""
        if self.beta == 0.0:
            return np.ones_like(counts)
        weights: NDArray[np.float64] = (1.0 - self.beta) / -np.expm1(counts * np.log(self.beta))
        return weights

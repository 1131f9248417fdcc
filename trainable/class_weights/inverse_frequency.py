"""Class weights 1/n."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from trainable.class_weights._base import CLASS_WEIGHTS, ClassWeights


@CLASS_WEIGHTS.add
class InverseFrequency(ClassWeights):
    """Weights proportional to 1/n: every class has the same say in the loss.

    Caution: at imbalance ratios in the hundreds one image of a rare class can steer a whole batch; milder
    weights, a deferral, or a lower learning rate keep such training stable.
    """

    name: Literal["inverse_frequency"] = "inverse_frequency"
    reference: ClassVar[str] = "King & Zeng 2001, Logistic Regression in Rare Events Data, on weighting"

    def raw(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return 1/n."""
        return np.reciprocal(counts)

"""What class weights are: a factor for each class, with mean 1 over the classes that occur."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainable.component import Component
from trainable.registry import Registry


class ClassWeights(Component, ABC):
    """Config of a weighting of classes in the loss."""

    name: str
    corrects_imbalance: ClassVar[bool] = True
    defer: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the epochs before the weights are switched on: deferred re-weighting (DRW), in [0, 1).

    Reference: Cao et al. 2019, arXiv 1906.07413, algorithm 1; the paper defers 160 of 200 epochs, 0.8.
    """

    def build(self, class_counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return weights `(C,)` with mean 1 over the classes with at least one image; 0 for the others.

        Args:
            class_counts: Training images per class, `(C,)`.
        """
        present = class_counts > 0
        weights = np.zeros(len(class_counts), dtype=np.float64)
        weights[present] = self.raw(class_counts[present].astype(np.float64))
        weights *= present.sum() / weights.sum()
        return weights

    @abstractmethod
    def raw(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return unnormalised positive weights from positive `counts`, both `(K,)`."""


CLASS_WEIGHTS: Registry[ClassWeights] = Registry("class_weights", ClassWeights)

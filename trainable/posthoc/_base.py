"""What a post-hoc correction is: a factor and an offset for each class's logit, of one strength."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainable.component import Component
from trainable.registry import Registry


@dataclass(frozen=True)
class Classifier:
    """What a correction may know of the network and of what it was trained on.

    Attributes:
        norms: Euclidean norm of each class's weights in the last layer, `(C,)`.
        bias: Of that layer, `(C,)`.
        class_prior: Probability of each class under the batch sampler, `(C,)`: what the network has learned.
        smallest_prior: Stands for the prior of a class without images.
    """

    norms: NDArray[np.float64]
    bias: NDArray[np.float64]
    class_prior: NDArray[np.float64]
    smallest_prior: float


@dataclass(frozen=True)
class Correction:
    """z becomes scale·z + offset.

    Attributes:
        scale: Factor of each class's logit, above 0, `(C,)`; for several parts `(P, C)`.
        offset: Added to it, of the same shape.
    """

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


class PostHoc(Component, ABC):
    """Config of a correction, or of none.

    It is applied to every epoch's validation logits, before any score is computed, and the saved weights
    carry it in their last layer, so that whoever loads them predicts with it.
    """

    name: str


class FittedCorrection(PostHoc):
    """A correction with a strength, which is given or fitted."""

    corrects_imbalance: ClassVar[bool] = True
    strengths: ClassVar[tuple[float, ...]]
    """What a fit tries, the weakest first; 0 changes no prediction."""
    needs_bias: ClassVar[bool]
    """Whether the last layer must have a bias that can take the offsets."""
    tau: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    """Strength τ; None fits it on the validation images after each epoch. The images are then judged out of
    fold (`analysis/out_of_fold.py`): each by the τ that does best on the other parts. The saved weights take
    the τ that does best on all; `summary.json` names it."""

    @abstractmethod
    def correction(self, tau: float, classifier: Classifier) -> Correction:
        """Return the correction of strength `tau`."""


POSTHOC: Registry[PostHoc] = Registry("posthoc", PostHoc)

"""Larger and smaller."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, Geometry, RareBoost, affine
from trainable.component import Range


@AUGMENT.add
class Scale(RareBoost, Geometry):
    """Scale the object about the centre by a factor in [low, high], log-uniform, both axes alike.

    Above 1 the border is cut off, below 1 the mean comes in around. Where the size of an object tells its
    class, keep this narrow.
    """

    name: Literal["scale"] = "scale"
    low: Annotated[float, Field(ge=0.1, le=1.0), Range(0.7, 1.0)] = 0.9
    high: Annotated[float, Field(ge=1.0, le=10.0), Range(1.0, 1.4)] = 1.1

    @property
    def inactive(self) -> bool:
        """True where both ends are 1."""
        return self.low == self.high == 1.0

    def matrix(self, draw: Draw) -> Tensor:
        """Return magnifications: from output to input they divide."""
        low, high = math.log(self.low), math.log(self.high)
        exponent = draw.uniform(low, high) * self.boosted(1.0, draw)
        inverse = torch.exp(-exponent)
        return affine(draw, [[inverse, 0.0, 0.0], [0.0, inverse, 0.0]])

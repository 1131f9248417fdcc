"""Rotation by a small angle."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, Geometry, RareBoost, affine
from trainable.component import Range


@AUGMENT.add
class Rotation(RareBoost, Geometry):
    """Turn about the centre by an angle uniform in [-degrees, degrees]; what comes in is the mean."""

    name: Literal["rotation"] = "rotation"
    degrees: Annotated[float, Field(ge=0.0, le=180.0), Range(2.0, 30.0)] = 10.0

    @property
    def inactive(self) -> bool:
        """True at zero degrees."""
        return self.degrees == 0.0

    def matrix(self, draw: Draw) -> Tensor:
        """Return rotations."""
        angle = draw.uniform(-1.0, 1.0) * self.boosted(self.degrees, draw, 180.0) * (math.pi / 180.0)
        cos, sin = torch.cos(angle), torch.sin(angle)
        return affine(draw, [[cos, -sin, 0.0], [sin, cos, 0.0]])

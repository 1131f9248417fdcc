"""Random erasing."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from analysis.errors import UsageError
from trainable.augment._base import AUGMENT, Draw, Mask, RareBoost
from trainable.component import Range


@AUGMENT.add
class Erasing(RareBoost, Mask):
    """Hide a random rectangle with probability `p`.

    Deviations from the paper: the rectangle is filled with the mean (the paper finds random values a
    little better), and one that does not fit is cut to the image instead of drawn again.
    """

    reference: ClassVar[str] = "Zhong et al. 2017, arXiv 1708.04896, algorithm 1"
    name: Literal["erasing"] = "erasing"
    p: Annotated[float, Field(ge=0.0, le=1.0), Range(0.1, 0.6)] = 0.25
    min_area: Annotated[float, Field(gt=0.0, le=1.0)] = 0.02
    """Smallest share of the image that a rectangle covers."""
    max_area: Annotated[float, Field(gt=0.0, le=1.0), Range(0.1, 0.4)] = 0.33
    min_aspect: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    """Height over width is log-uniform in [min_aspect, 1 / min_aspect]."""

    @model_validator(mode="after")
    def _ordered(self) -> Erasing:
        if self.min_area > self.max_area:
            raise UsageError(f"min_area must be at most max_area ({self.max_area}), got {self.min_area}")
        return self

    @property
    def inactive(self) -> bool:
        """True at `p` = 0."""
        return self.p == 0.0

    def keep(self, draw: Draw) -> Tensor:
        """Return everything but the rectangles."""
        hit = draw.chance(self.boosted(self.p, draw, 1.0))
        area = draw.uniform(self.min_area, self.max_area) * (draw.height * draw.width)
        root = torch.exp(draw.uniform(math.log(self.min_aspect), -math.log(self.min_aspect)) / 2)
        inside_y = _interval(draw, area.sqrt() * root, draw.height)[:, :, None]
        inside_x = _interval(draw, area.sqrt() / root, draw.width)[:, None, :]
        return ~(hit[:, None, None] & inside_y & inside_x)[:, None]


def _interval(draw: Draw, length: Tensor, size: int) -> Tensor:
    """Return `(B, size)` booleans: true on a stretch of the rounded `length` at a uniform place."""
    length = length.round().clamp(1, size)
    start = (draw.uniform() * (size - length + 1)).floor()
    place = torch.arange(size, device=draw.device)
    return (place >= start[:, None]) & (place < (start + length)[:, None])

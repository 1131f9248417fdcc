"""GridMask: a grid of squares hidden all over the image."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, Mask, RareBoost
from trainable.component import Range


@AUGMENT.add
class GridMask(RareBoost, Mask):
    """Hide a square in each cell of a grid; the cell's side is random, and so is the grid's place.

    Deviations: the cell's side is a share of the image's shorter side, not pixels; the grid is not turned.
    """

    reference: ClassVar[str] = "Chen et al. 2020, arXiv 2001.04086, section 3"
    name: Literal["gridmask"] = "gridmask"
    p: Annotated[float, Field(ge=0.0, le=1.0), Range(0.2, 0.8)] = 0.7
    ramp: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    """Share of the epochs over which the probability grows linearly from 0 to `p`; 0 starts with `p`."""
    keep_ratio: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.4, 0.8)] = 0.6
    """The paper's r: share of a cell's side that is not hidden; 1 - (1 - r)² of the pixels stay."""
    min_cell: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    """Cells' sides are uniform in [min_cell, 1] of the image's shorter side, and at least two pixels."""

    @property
    def inactive(self) -> bool:
        """True at `p` = 0."""
        return self.p == 0.0

    def keep(self, draw: Draw) -> Tensor:
        """Return everything but the squares."""
        growth = min(1.0, draw.epoch_fraction / self.ramp) if self.ramp > 0.0 else 1.0
        hit = draw.chance(self.boosted(self.p * growth, draw, 1.0))
        shorter = min(draw.height, draw.width)
        cell = (draw.uniform(self.min_cell, 1.0) * shorter).round().clamp(min=2.0)[:, None]
        hidden = (cell * (1.0 - self.keep_ratio)).round().clamp(min=1.0)
        rows, columns = (self._stripes(draw, size, cell, hidden) for size in (draw.height, draw.width))
        return ~(hit[:, None, None] & rows[:, :, None] & columns[:, None, :])[:, None]

    def _stripes(self, draw: Draw, size: int, cell: Tensor, hidden: Tensor) -> Tensor:
        """Return `(B, size)` booleans: true on the hidden part of each period."""
        place = torch.arange(size, device=draw.device)
        offset = (draw.uniform()[:, None] * cell).floor()
        return torch.remainder(place + offset, cell) < hidden

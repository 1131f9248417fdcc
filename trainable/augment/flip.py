"""Mirroring, within what the data allow."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, Geometry, affine


@AUGMENT.add
class Flip(Geometry):
    """Mirror along each axis that `data.flips` allows, each with probability `p`.

    `dihedral` also exchanges the axes with probability `p`, so that `p = 0.5` draws all eight symmetries
    of the square alike; where height and width differ a right angle would cut the image, and `dihedral`
    is `hv`. `data.flips: none` makes the operation do nothing: digits and traffic signs change their
    class in a mirror.
    """

    name: Literal["flip"] = "flip"
    exact: ClassVar[bool] = True
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5

    @property
    def inactive(self) -> bool:
        """True at `p` = 0."""
        return self.p == 0.0

    def matrix(self, draw: Draw) -> Tensor:
        """Return signed permutations of the axes."""
        allowed = draw.flips
        x = self._signs(draw, allowed in ("h", "hv", "dihedral"))
        y = self._signs(draw, allowed in ("v", "hv", "dihedral"))
        if allowed != "dihedral" or draw.height != draw.width:
            return affine(draw, [[x, 0.0, 0.0], [0.0, y, 0.0]])
        swap = draw.chance(self.p).float()
        return affine(draw, [[x * (1 - swap), x * swap, 0.0], [y * swap, y * (1 - swap), 0.0]])

    def _signs(self, draw: Draw, allowed: bool) -> Tensor:
        if not allowed:
            return torch.ones(draw.batch_size, device=draw.device)
        return 1.0 - 2.0 * draw.chance(self.p).float()

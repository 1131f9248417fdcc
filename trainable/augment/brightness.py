"""Lighter and darker."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Colour, Draw, RareBoost
from trainable.component import Range


@AUGMENT.add
class Brightness(RareBoost, Colour):
    """Multiply by a factor uniform in [1 - strength, 1 + strength], then clip to [0, 1].

    On images with a bright background (plankton, documents) clipping takes faint detail away: keep it low.
    """

    name: Literal["brightness"] = "brightness"
    strength: Annotated[float, Field(ge=0.0, le=1.0), Range(0.05, 0.5)] = 0.2

    @property
    def inactive(self) -> bool:
        """True at strength 0."""
        return self.strength == 0.0

    def matrix(self, draw: Draw, channels: int) -> Tensor:
        """Return multiples of the identity."""
        factor = 1.0 + draw.uniform(-1.0, 1.0) * self.boosted(self.strength, draw, 1.0)
        identity = torch.eye(channels, channels + 1, device=draw.device)
        return factor[:, None, None] * identity

"""The image and its mirror images."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainable.augment import Flips
from trainable.tta._base import TTA, View, ViewSet, mirrored


@TTA.add
class FlipViews(ViewSet):
    """Every mirroring that `data.flips` allows; with `h`, a second forward pass. Nothing where it is `none`."""

    name: Literal["flips"] = "flips"
    reference: ClassVar[str] = "Krizhevsky et al. 2012, NeurIPS, section 4.1 (mean over mirrored views)"

    def views(self, flips: Flips) -> tuple[View, ...]:
        """Return the mirrorings."""
        return mirrored(flips)

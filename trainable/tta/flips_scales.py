"""The image, its mirror images, and two zooms."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.augment import Flips
from trainable.component import Range
from trainable.tta._base import TTA, View, ViewSet, Zoom, mirrored


@TTA.add
class FlipAndScaleViews(ViewSet):
    """The mirrorings that `data.flips` allows, and the image zoomed to 1 - delta and 1 + delta.

    With `h` and 0.1 the four views of the sources: identity, flip, 0.9, 1.1. Caution: where an object's size
    tells its class, zooming blurs it; each view is one more forward pass.
    """

    name: Literal["flips_scales"] = "flips_scales"
    reference: ClassVar[str] = "Simonyan and Zisserman 2015, arXiv 1409.1556, section 3.2 (several scales)"
    delta: Annotated[float, Field(gt=0.0, lt=1.0), Range(0.05, 0.2)] = 0.1

    def views(self, flips: Flips) -> tuple[View, ...]:
        """Return mirrorings and zooms."""
        return (*mirrored(flips), Zoom(1.0 - self.delta), Zoom(1.0 + self.delta))

"""Random crop of the padded image: a shift by whole pixels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, Geometry, RareBoost, affine
from trainable.component import Range


@AUGMENT.add
class Crop(RareBoost, Geometry):
    """Pad with the mean on all sides, then cut the original size out at a random place.

    The field's `RandomCrop(32, padding=4)`. `padding` is in pixels of the stored image, and shrinks or
    grows with it where an epoch trains at another size.
    """

    reference: ClassVar[str] = "He et al. 2015, arXiv 1512.03385, section 4.2"
    exact: ClassVar[bool] = True
    name: Literal["crop"] = "crop"
    padding: Annotated[int, Field(ge=0, le=512), Range(1, 6)] = 4

    @property
    def inactive(self) -> bool:
        """True without padding."""
        return self.padding == 0

    def matrix(self, draw: Draw) -> Tensor:
        """Return translations by whole pixels, uniform in [-padding, padding] on each axis."""
        reach = self.boosted(self.padding, draw).floor()[:, None]
        offset = (draw.uniform(0.0, 1.0, 2) * (2 * reach + 1)).floor() - reach
        return affine(draw, [[1.0, 0.0, offset[:, 0]], [0.0, 1.0, offset[:, 1]]])

"""Progressive resizing: small images first, full ones at the end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.component import Range
from trainable.techniques._base import Technique, switchable

PROGRESSIVE_RESIZING = switchable("progressive_resizing")
SMALLEST = 4
"""Pixels that a side keeps whatever the share."""


@PROGRESSIVE_RESIZING.add
class Linear(Technique):
    """The training images' sides grow linearly with the epoch; evaluation is always at full size.

    An epoch at share s of the side costs about s² of a full one. Suggested: from 0.5 to 0.75 of the side,
    full from 0.6 to 0.8 of the epochs on, so that the last ones see what evaluation sees. Networks whose
    position embeddings fix the size cannot do it. Deviation: the paper also strengthens augmentation
    along with the size; here augmentation stays as configured.
    """

    name: Literal["linear"] = "linear"
    reference: ClassVar[str] = "Tan and Le 2021, arXiv 2104.00298, section 4.2 (progressive learning)"
    start: Annotated[float, Field(gt=0.0, le=1.0), Range(0.5, 0.9)] = 0.6
    """Share of each side in the first epoch."""
    full_at: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.4, 0.8)] = 0.7
    """Share of the epochs after which images are whole."""

    def size_at(self, epoch: int, num_epochs: int, full: tuple[int, int]) -> tuple[int, int]:
        """Return height and width in pixels for `epoch` (from 0) of `num_epochs`.

        Sides are even where the full ones allow it, at least 4 pixels and at most `full`. The last epoch
        is always whole.
        """
        growing = min(round(self.full_at * num_epochs), num_epochs - 1)
        progress = 1.0 if epoch >= growing else epoch / growing
        share = self.start + (1.0 - self.start) * progress
        height, width = (side if share >= 1.0 else _even(share * side, side) for side in full)
        return height, width


def _even(side: float, full: int) -> int:
    return min(full, max(SMALLEST, 2 * round(side / 2)))

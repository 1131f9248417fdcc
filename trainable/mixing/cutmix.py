"""CutMix."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.component import Choices, Range
from trainable.mixing._base import MIXING, Mixed, Mixing, Pairs


@MIXING.add
class CutMix(Mixing):
    """A box of an image filled from another one; the share of its area that is left is λ.

    The box has the image's proportions, an area of 1 − Beta(alpha, alpha) and a centre anywhere; what
    falls outside is cut off, and λ counts the pixels that were really kept.
    """

    name: Literal["cutmix"] = "cutmix"
    reference: ClassVar[str] = "Yun et al. 2019, arXiv 1905.04899, equations 1 and 2"
    alpha: Annotated[float, Field(ge=0.05, le=100.0), Range(0.2, 1.0)] = 1.0
    p: Annotated[float, Field(ge=0.0, le=1.0), Range(0.25, 1.0)] = 0.5
    """Probability that a batch (or an image, with `per_sample`) is mixed at all."""
    per_sample: Annotated[bool, Choices((False, True))] = False
    """Draw a box for each image instead of one for the batch."""

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Mixed:
        """Mix normalised images `(B, C, H, W)` and targets `(B,)`; `generator` lives on their device."""
        pairs = Pairs(images, targets, generator, per_sample=self.per_sample)
        inside, share = boxes(pairs, self.alpha, pairs.uniform() < self.p)
        return pairs.mixed(paste(pairs, images, inside), share)


def boxes(pairs: Pairs, alpha: float, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a box for each draw that is `wanted` `(D,)`, an empty one for the others.

    Returns:
        `(D, 1, H, W)` booleans, true inside the box, and `(D,)` the exact share of pixels outside.
    """
    height, width = pairs.images.shape[-2:]
    side = (1.0 - pairs.beta(alpha)).sqrt() * wanted
    rows, kept_rows = _span(height, side, pairs.uniform())
    columns, kept_columns = _span(width, side, pairs.uniform())
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    return inside, 1.0 - kept_rows * kept_columns / (height * width)


def _span(size: int, side: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of `size` pixels lie in a span, `(D, size)`, and how many do, `(D,)`.

    Args:
        size: Pixels of the whole.
        side: Length of the span, as a share of the whole, `(D,)`.
        centre: Its centre, as a share of the whole, `(D,)`.
    """
    length, middle = (side * size).floor(), (centre * size).floor()
    low = (middle - (length / 2).floor()).clamp(0, size)
    high = (middle - (length / 2).floor() + length).clamp(0, size)
    pixel = torch.arange(size, device=side.device)
    return (pixel >= low[:, None]) & (pixel < high[:, None]), high - low


def paste(pairs: Pairs, images: Tensor, inside: Tensor) -> Tensor:
    """Return `images` with their partners' pixels where `inside` `(D, 1, H, W)` is true."""
    return torch.where(inside, pairs.images[pairs.partner], images)

"""From raw batches to augmented, normalised ones: the pixels are touched once for each kind of operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import ceil
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.augment._base import AugmentOp, Colour, Draw, Geometry, ImageOp, Mask

CACHED_BYTES = 4 << 20
"""Of pixels as float32 that a CPU finishes together: sampling more of them takes twice as long each."""


class Pipeline:
    """Applies operations of all kinds to batches; the order in which they are listed does not matter.

    Resize, operations on pixels, colour (clipped once, as a picture would be), normalisation, geometry
    (what comes in from outside is zero, the mean), masks (to zero). Within a kind the order is that of
    the names. Without active operations the result is the normalised image, bit for bit.

    Args:
        ops: Operations; inactive ones are left out.
        mean: `(1, C, 1, 1)` on the device, of values in [0, 1].
        std: Alike.
    """

    def __init__(self, ops: Sequence[AugmentOp], mean: Tensor, std: Tensor) -> None:
        active = sorted((op for op in ops if not op.inactive), key=lambda op: op.name)
        self.mean, self.inverse_std = mean, 1.0 / std
        self.image_ops = [op for op in active if isinstance(op, ImageOp)]
        self.colours = [op for op in active if isinstance(op, Colour)]
        self.geometry = [op for op in active if isinstance(op, Geometry)]
        self.masks = [op for op in active if isinstance(op, Mask)]

    def __call__(
        self,
        raw: Tensor,
        size: tuple[int, int],
        draw: Draw | None,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> Tensor:
        """Return normalised images `(B, C, h, w)` float32.

        Args:
            raw: `(B, C or 1, H, W)` in [0, 255], uint8 or float32; the latter is overwritten.
            size: h and w of the result, in pixels.
            draw: Where randomness comes from, with the *raw* images' size; None augments nothing.
            layout: Of the result.
        """
        opened = None
        if draw is not None and self.image_ops:
            at_size = draw.at_size(*size)
            opened = self._opened(raw, size)
            for op in self.image_ops:
                opened = op.apply(opened, at_size).clamp_(0.0, 1.0)
        changes = None if draw is None else self._drawn(draw, size)
        channels = self.mean.shape[1]

        def finished(rows: slice) -> Tensor:
            images = self._opened(raw[rows], size) if opened is None else opened[rows]
            return self._changed(images, None if changes is None else changes.of(rows))

        parts = _parts(raw, channels, size)
        if len(parts) == 1:
            return finished(parts[0]).contiguous(memory_format=layout)
        images = torch.empty((len(raw), channels, *size), device=raw.device, memory_format=layout)
        for rows in parts:
            images[rows] = finished(rows)
        return images

    def _opened(self, raw: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images in [0, 1] with all channels."""
        images = resized(raw.to(torch.float32, memory_format=torch.contiguous_format), size)
        if images.shape[1] != self.mean.shape[1]:
            images = images.repeat(1, self.mean.shape[1], 1, 1)
        return images.mul_(1.0 / 255.0)

    def _drawn(self, draw: Draw, size: tuple[int, int]) -> _Changes:
        """Draw what happens to each image."""
        colours = matrices = keep = None
        for op in self.colours:
            linear, shift = _split(op.matrix(draw, self.mean.shape[1]))
            colours = (linear, shift) if colours is None else (linear @ colours[0], linear @ colours[1] + shift)
        if self.geometry:
            matrices = reduce(torch.matmul, (op.matrix(draw) for op in self.geometry))
        if self.masks:
            at_size = draw.at_size(*size)
            keep = reduce(torch.logical_and, (op.keep(at_size) for op in self.masks))
        return _Changes(colours, matrices, keep, (draw.height, draw.width))

    def _changed(self, images: Tensor, changes: _Changes | None) -> Tensor:
        """Return opened images coloured, normalised, moved and masked, in their own memory where possible."""
        if changes is not None and changes.colours is not None:
            linear, shift = changes.colours
            images = torch.baddbmm(shift, linear, images.flatten(2)).clamp_(0.0, 1.0).view(images.shape)
        images = images.sub_(self.mean).mul_(self.inverse_std)
        if changes is None:
            return images
        if changes.matrices is not None:  # all movements at once, sampled a single time
            whole = all(op.exact for op in self.geometry) and images.shape[2:] == changes.original
            images = warped(images, changes.matrices, changes.original, "nearest" if whole else "bilinear")
        return images if changes.keep is None else images.mul_(changes.keep)


class _Changes(NamedTuple):
    """What happens to the images of a batch.

    Attributes:
        colours: `(B, C, C)` and `(B, C, 1)`, of values in [0, 1].
        matrices: `(B, 3, 3)` from output to input.
        keep: `(B, 1, h, w)` booleans.
        original: Height and width of the image in whose pixels `matrices` is written.
    """

    colours: tuple[Tensor, Tensor] | None
    matrices: Tensor | None
    keep: Tensor | None
    original: tuple[int, int]

    def of(self, rows: slice) -> _Changes:
        """Return what happens to some of them."""
        colours = None if self.colours is None else (self.colours[0][rows], self.colours[1][rows])
        matrices = None if self.matrices is None else self.matrices[rows]
        keep = None if self.keep is None else self.keep[rows]
        return _Changes(colours, matrices, keep, self.original)


def _parts(raw: Tensor, channels: int, size: tuple[int, int]) -> list[slice]:
    """Return which images to finish together: all of them on a GPU, on a CPU as many as its cache holds."""
    one = 4 * channels * max(raw.shape[2] * raw.shape[3], size[0] * size[1])
    parts = max(1, ceil(len(raw) * one / CACHED_BYTES)) if raw.device.type == "cpu" else 1
    together = max(1, ceil(len(raw) / parts))
    return [slice(start, start + together) for start in range(0, len(raw), together)]


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `(B, C, H, W)` images at `size`, bilinear, smoothed first where they shrink."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def warped(images: Tensor, matrices: Tensor, original: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Return images sampled through affine maps, with zeros outside.

    Args:
        images: `(B, C, h, w)`.
        matrices: `(B, 3, 3)` from output to input, in pixels about the centre (see `Geometry.matrix`).
        original: Height and width of the image in whose pixels `matrices` is written; where `images` has
            another size, movements shrink or grow with it.
        mode: `bilinear` or `nearest`.
    """
    height, width = images.shape[2:]
    x = _centres(width, original[1], images.device)
    y = _centres(height, original[0], images.device)
    from_x, from_y, shift = matrices[:, :2].unbind(dim=2)
    across = from_x[:, :, None] * x
    down = from_y[:, :, None] * y + shift[:, :, None]
    # Both coordinates are planes of one tensor and only seen interleaved: 5x faster to fill on a CPU.
    places = across[:, :, None, :] + down[:, :, :, None]
    places[:, 0] *= 2.0 / original[1]
    places[:, 1] *= 2.0 / original[0]
    grid = places.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _centres(size: int, original: int, device: torch.device) -> Tensor:
    """Return `(size,)` places of pixel centres about the middle, in pixels of an image of side `original`."""
    places = torch.arange(size, device=device, dtype=torch.float32) + (0.5 - size / 2)
    return places * (original / size)


def _split(matrix: Tensor) -> tuple[Tensor, Tensor]:
    return matrix[:, :, :-1], matrix[:, :, -1:]

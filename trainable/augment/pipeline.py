"""From raw batches to augmented, normalised ones: the pixels are touched once for each kind of operation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from trainable.augment._base import AugmentOp, Colour, Draw, Geometry, ImageOp, Mask


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

    def __call__(self, raw: Tensor, size: tuple[int, int], draw: Draw | None) -> Tensor:
        """Return normalised images `(B, C, h, w)` float32.

        Args:
            raw: `(B, C or 1, H, W)` float32 in [0, 255]; overwritten.
            size: h and w of the result, in pixels.
            draw: Where randomness comes from, with the *raw* images' size; None augments nothing.
        """
        images = resized(raw, size)
        if images.shape[1] != self.mean.shape[1]:
            images = images.repeat(1, self.mean.shape[1], 1, 1)
        images = images.mul_(1.0 / 255.0)
        if draw is None:
            return self._normalised(images)
        at_size = draw.at_size(*size)
        for op in self.image_ops:
            images = op.apply(images, at_size).clamp_(0.0, 1.0)
        if self.colours:
            images = self._coloured(images, draw)
        images = self._normalised(images)
        if self.geometry:
            images = self._moved(images, draw)
        if self.masks:
            keep = reduce(torch.logical_and, (op.keep(at_size) for op in self.masks))
            images = images.mul_(keep)
        return images

    def _normalised(self, images: Tensor) -> Tensor:
        return images.sub_(self.mean).mul_(self.inverse_std)

    def _coloured(self, images: Tensor, draw: Draw) -> Tensor:
        channels = images.shape[1]
        linear, shift = _split(self.colours[0].matrix(draw, channels))
        for op in self.colours[1:]:
            then, then_shift = _split(op.matrix(draw, channels))
            linear, shift = then @ linear, then @ shift + then_shift
        return torch.baddbmm(shift, linear, images.flatten(2)).clamp_(0.0, 1.0).view(images.shape)

    def _moved(self, images: Tensor, draw: Draw) -> Tensor:
        """Return `images` after all movements at once, sampled a single time."""
        matrices = reduce(torch.matmul, (op.matrix(draw) for op in self.geometry))
        original = (draw.height, draw.width)
        whole = all(op.exact for op in self.geometry) and images.shape[2:] == original
        return warped(images, matrices, original, mode="nearest" if whole else "bilinear")


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

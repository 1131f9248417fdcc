"""3x3 convolutions over maps with a side of one or two, and gradients over small maps, without their zeros.

On such maps about half of a kernel's taps or more lie beside the image, and unfolded images multiply them by
zeros. Here a pixel is multiplied by the taps that reach it.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

_REACHING = (((1, 0),), ((2, 0), (0, 1)))
"""Rows of a kernel with a stride of two that reach an even row of pixels, an odd one, and how far down from."""


def convolved(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the convolution `(N, K, H, W)`, channels-last, by a kernel `(K, C, 3, 3)` padded by one pixel.

    Args:
        images: `(N, C, H, W)`, a side of which is at most two; stride and dilation are one.
        weight: The kernel.
        bias: `(K,)`, or None.
    """
    seen, taps, turned = _aligned(images, weight)
    number, length, side, channels = seen.shape
    rows = taps.new_empty(side, len(weight), 3, side, channels)  # all of which is reached on a side of two
    for pixel in range(side):
        rows[pixel] = taps[:, :, 1 - pixel : 1 - pixel + side]
    matrix, width = rows.view(side * len(weight), -1), side * channels
    # Not a view of what is multiplied: what follows may well overwrite it, as activations do.
    size = (number, len(weight), *images.shape[2:])
    out = torch.empty(size, dtype=seen.dtype, memory_format=torch.channels_last)
    places = out.permute(0, 3, 2, 1) if turned else out.permute(0, 2, 3, 1)
    for place in range(length):
        low, high = max(0, place - 1), min(length, place + 2)
        reached = matrix[:, (low - place + 1) * width : (high - place + 1) * width].t()
        pixels = seen[:, low:high].reshape(number, -1)
        found = pixels @ reached if bias is None else torch.addmm(bias.repeat(side), pixels, reached)
        places[:, place] = found.view(number, side, -1)
    return out


def image_gradient(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the images' gradient `(N, C, H, W)`, channels-last, of the convolution's `(N, K, H, W)`.

    It is `convolved` by the kernel turned round, whose copying would take longer than all the rest.
    """
    seen, taps, turned = _aligned(gradient, weight)
    number, length, side, out_channels = seen.shape
    channels = taps.shape[3]
    rows = taps.new_empty(3, side, out_channels, side, channels)
    for tap in range(3):
        for pixel in range(side):
            rows[tap, pixel] = taps[:, 2 - tap, 1 - pixel : 1 - pixel + side]
    out = seen.new_empty(number, length, side, channels)
    for place in range(length):
        low, high = max(0, place - 1), min(length, place + 2)
        reaching = rows[low - place + 1 : high - place + 1].view(-1, side * channels)
        out[:, place] = (seen[:, low:high].reshape(number, -1) @ reaching).view(number, side, -1)
    return (
        (out.transpose(1, 2) if turned else out)
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=torch.channels_last)
    )


def strided_image_gradient(gradient: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the images' gradient `(N, C, H, W)`, channels-last, of a convolution with a stride of two.

    Pixels in even rows are reached by the middle row of taps alone, those in odd rows by the two others, and
    columns likewise. Each of the four kinds of pixels is one product.

    Args:
        gradient: Of the output, `(N, K, P, Q)`, P and Q being half of H and W, rounded up.
        weight: The kernel `(K, C, 3, 3)`.
        size: H and W.
    """
    number, channels = len(gradient), weight.shape[1]
    upstream = functional.pad(gradient.permute(0, 2, 3, 1), (0, 0, 0, 1, 0, 1))
    taps = weight.permute(2, 3, 0, 1)
    found = torch.empty((number, channels, *size), dtype=gradient.dtype, memory_format=torch.channels_last)
    pixels = found.permute(0, 2, 3, 1)
    for odd_row, odd_column in product((0, 1), repeat=2):
        kind = pixels[:, odd_row::2, odd_column::2]
        height, width = kind.shape[1:3]
        reaching = [
            (upstream[:, down : down + height, right : right + width], taps[row, column])
            for row, down in _REACHING[odd_row]
            for column, right in _REACHING[odd_column]
        ]
        above = torch.cat([places for places, _ in reaching], 3).flatten(0, 2)
        kind.copy_((above @ torch.cat([tap for _, tap in reaching])).view(kind.shape))
    return found


def weight_gradient(gradient: Tensor, images: Tensor) -> Tensor:
    """Return the gradient `(K, C, 3, 3)` of the kernel, laid out channels-last; maps may be of any size.

    Args:
        gradient: Of the output, `(N, K, H, W)`; stride and dilation are one.
        images: `(N, C, H, W)`.
    """
    upstream, pixels = gradient.permute(0, 2, 3, 1), images.permute(0, 2, 3, 1)
    height, width = images.shape[2:]
    made = upstream.new_zeros if min(height, width) == 1 else upstream.new_empty  # some taps reach nothing
    taps = made(gradient.shape[1], 3, 3, images.shape[1])
    for column in range(3):
        columns, seen_columns = _reached(width, column)
        # Rows in front, so that those which a tap reaches lie together.
        above = upstream[:, :, columns].transpose(0, 1).contiguous()
        below = pixels[:, :, seen_columns].transpose(0, 1).contiguous()
        for row in range(3):
            rows, seen_rows = _reached(height, row)
            if above[rows].numel():
                taps[:, row, column] = above[rows].flatten(0, 2).t() @ below[seen_rows].flatten(0, 2)
    return taps.permute(0, 3, 1, 2)


def _reached(extent: int, tap: int) -> tuple[slice, slice]:
    """Return the places from which `tap` (0 to 2) reaches a pixel, and the pixels that it reaches."""
    low, high = max(0, 1 - tap), min(extent, extent + 1 - tap)
    return slice(low, max(low, high)), slice(low + tap - 1, max(low, high) + tap - 1)


def _aligned(maps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return pixels `(N, L, S, C)`, the shorter side behind, taps `(K, 3, 3, C)` and if both are turned."""
    turned = maps.shape[2] < maps.shape[3]
    pixels, taps = maps.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
    if turned:
        pixels, taps = pixels.transpose(1, 2), taps.transpose(1, 2)
    return pixels.contiguous(), taps, turned


__all__ = [
    "convolved",
    "image_gradient",
    "strided_image_gradient",
    "weight_gradient",
]

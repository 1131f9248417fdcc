"""Which way of computing a convolution over few pixels is the fastest on a CPU: bounds that were measured.

`python -m benchmarks.small_maps --layers` and `python -m benchmarks.step_parts --layers` are what they rest on.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch

Forward = Literal["torch", "product", "narrow", "linear"]
OfImages = Literal["torch", "product", "narrow", "strided", "linear"]
OfWeight = Literal["torch", "product", "taps", "linear"]


@dataclass(frozen=True)
class Ways:
    """How a convolution and its gradients are computed; all three `linear`: as a linear layer of each pixel.

    Attributes:
        forward: By torch, as a product of unfolded images, or by `narrow_maps.convolved`.
        of_images: By torch, as a product of the unfolded gradient (stride one), or by `narrow_maps`'
            `image_gradient` or `strided_image_gradient`.
        of_weight: By torch, as a product of unfolded images, or by `narrow_maps.weight_gradient`.
    """

    forward: Forward
    of_images: OfImages
    of_weight: OfWeight


TORCHS, LINEAR = Ways("torch", "torch", "torch"), Ways("linear", "linear", "linear")

FEW_PIXELS = {1: 20, 2: 64}
"""In bf16, most output pixels, by stride, for which the gradient of a 3x3 kernel is faster as a product. Up to
the first of them a 1x1 kernel is too, and its convolution."""
FEWER_PIXELS = 4
"""Most for which the convolution by a 3x3 kernel is too."""
NARROWEST, WIDE = 64, 512
"""Fewest channels that were measured, and output channels whose weights no longer stay in a core's cache."""
NARROW_PIXELS = 6
"""Most pixels of a map with a side of one or two that `narrow_maps.convolved` takes."""
FEW_OUTPUTS = 9
"""Most pixels of the output of a convolution with a stride of two for `narrow_maps.strided_image_gradient`."""
WORTH, STRIDED_WORTH = 8e6, 1.6e7
"""In bf16, least channels of the input times those of the output times images for what `narrow_maps` does:
below, copies outweigh products."""

FP32_WORTH = 2e6
"""The same in fp32, with a stride of one."""
FP32_FORWARD = ((2**17, 20), (2**15, 9))
"""In fp32, most output pixels for which the convolution by a 3x3 kernel is faster as a product, where its input
channels times its output channels are at least so many: oneDNN is slow where weights leave a core's cache."""
FP32_OF_IMAGES = ((2**17, 16),)
"""Likewise, for the gradient of the images."""
FP32_OF_WEIGHT = ((2**17, 36), (2**16, 20), (2**15, 9))
"""Likewise, for that of the kernel; smaller products take less time than handing them over does."""
FP32_POINTWISE_PIXELS, FP32_POINTWISE_PRODUCTS = 20, 2e7
"""In fp32 a 1x1 kernel is a linear layer up to so many pixels, and over more of them up to so many products."""


def ways_of(dtype: torch.dtype, kernel: int, stride: int, out_channels: int, images: torch.Size) -> Ways:
    """Return the ways of a convolution in `dtype`, bf16 or fp32; the rest is as `ways_in_bf16` takes it."""
    if dtype is torch.bfloat16:
        return ways_in_bf16(kernel, stride, out_channels, images)
    if kernel == 3:
        return ways_in_fp32(stride, out_channels, images)
    return LINEAR if stride == 1 and is_linear(out_channels, images) else TORCHS


def ways_in_bf16(kernel: int, stride: int, out_channels: int, images: torch.Size) -> Ways:
    """Return the ways of a convolution in bf16, its padding half of the kernel.

    Args:
        kernel: Rows of a square kernel: 1 or 3.
        stride: 1 or 2.
        out_channels: Of the kernel.
        images: Shape of the input, `(N, C, H, W)`.
    """
    pixels, wide_enough = prod(output_size(images, stride)), min(images[1], out_channels) >= NARROWEST
    most = FEW_PIXELS[1] if kernel == 1 else FEW_PIXELS[stride]
    if pixels > most or not wide_enough:
        return TORCHS
    if kernel == 1:
        return Ways("product", "torch", "product")
    many = images[0] * images[1] * out_channels
    if stride == 2:
        whole = pixels <= FEWER_PIXELS or (pixels <= FEW_PIXELS[1] and out_channels >= WIDE)
        strided = many >= STRIDED_WORTH and pixels <= FEW_OUTPUTS
        return Ways("product" if whole else "torch", "strided" if strided else "torch", "product")
    of_weight: OfWeight = "taps" if many >= WORTH else "product"
    if many >= WORTH and _is_narrow(images):
        return Ways("narrow", "narrow", of_weight)
    whole = pixels <= FEWER_PIXELS or out_channels >= WIDE
    return Ways("product" if whole else "torch", "torch", of_weight)


def ways_in_fp32(stride: int, out_channels: int, images: torch.Size) -> Ways:
    """Return the ways of a 3x3 convolution in fp32; `is_linear` speaks of 1x1 ones.

    Args:
        stride: 1 or 2.
        out_channels: Of the kernel.
        images: Shape of the input, `(N, C, H, W)`.
    """
    if min(images[1], out_channels) < NARROWEST:
        return TORCHS
    pixels, weights = prod(output_size(images, stride)), images[1] * out_channels
    forward: Forward = "product" if _few(FP32_FORWARD, weights, pixels) else "torch"
    of_images: OfImages = "product" if _few(FP32_OF_IMAGES, weights, pixels) else "torch"
    of_weight: OfWeight = "product" if _few(FP32_OF_WEIGHT, weights, pixels) else "torch"
    if stride == 2:
        return Ways(forward, "torch" if of_images == "torch" else "strided", of_weight)
    if images[0] * weights >= FP32_WORTH:
        if _is_narrow(images):
            return Ways("narrow", "narrow", "taps")
        of_weight = "torch" if of_weight == "torch" else "taps"
    return Ways(forward, of_images, of_weight)


def is_linear(out_channels: int, images: torch.Size) -> bool:
    """Return whether a 1x1 convolution in fp32 with a stride of one is faster as a linear layer."""
    pixels = images[2:].numel()
    products = images.numel() * out_channels
    return pixels <= FP32_POINTWISE_PIXELS or products <= FP32_POINTWISE_PRODUCTS


def output_size(images: torch.Size, stride: int) -> tuple[int, int]:
    """Return height and width of the output, half of the kernel being the padding."""
    height, width = ((side - 1) // stride + 1 for side in images[2:])
    return height, width


def _is_narrow(images: torch.Size) -> bool:
    height, width = images[2:]
    return min(height, width) <= 2 and height * width <= NARROW_PIXELS


def _few(bounds: tuple[tuple[int, int], ...], weights: int, pixels: int) -> bool:
    """Return whether `pixels` are no more than the most for so many `weights`, the widest bound first."""
    return any(weights >= least and pixels <= most for least, most in bounds)


__all__ = [
    "LINEAR",
    "TORCHS",
    "Ways",
    "is_linear",
    "output_size",
    "ways_in_bf16",
    "ways_in_fp32",
    "ways_of",
]

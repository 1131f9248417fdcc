"""Convolutions over maps of few pixels: on a CPU their gradients, or all of them, as matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainable import narrow_maps
from trainable.processor import is_intel_avx512
from trainable.quick_convolution import torchs_gradient, turned_into
from trainable.small_map_ways import (
    LINEAR,
    NARROWEST,
    TORCHS,
    Ways,
    output_size,
    ways_of,
)


class SmallMapConv2d(nn.Conv2d):
    """An `nn.Conv2d` that multiplies matrices where its output has few pixels.

    Attributes:
        formats: In which it does so: bf16 (under autocast), fp32 or both.
    """

    formats: tuple[torch.dtype, ...] = ()

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution of `images`, `(N, C, H, W)`, laid out channels-last where it is a product."""
        dtype = self._format(images)
        if dtype is None:
            return super().forward(images)
        stride = self.stride[0]
        ways = ways_of(dtype, self.kernel_size[0], stride, self.out_channels, images.shape)
        if ways == LINEAR:
            return self._linear(images)
        if ways == TORCHS or (ways.forward == "torch" and not torch.is_grad_enabled()):
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.to(dtype)
            images, weight = images.to(dtype), self.weight.to(dtype)
            convolved: Tensor = _SmallMap.apply(images, weight, bias, stride, ways)
            return convolved

    def _format(self, images: Tensor) -> torch.dtype | None:
        """Return in which format it may be a product; None: nothing is in other formats and layouts."""
        under_autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if under_autocast else torch.float32
        plain = images.dtype is self.weight.dtype is torch.float32 and images.device.type == "cpu"
        return dtype if dtype in self.formats and (plain or under_autocast) and _fit(images) else None

    def _linear(self, images: Tensor) -> Tensor:
        """Return the convolution by a 1x1 kernel as a linear layer of each pixel."""
        pixels = functional.linear(images.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return pixels.permute(0, 3, 1, 2)


def quicken_small_maps(model: nn.Module) -> list[str]:
    """Have the convolutions of `model` multiply matrices where that is faster; return their names.

    Over maps of few pixels oneDNN's kernels without AMX have too little to do at a time: the gradient of a wide
    3x3 kernel's weights takes up to nine times as long as the product of two matrices, into which the images
    are copied once for each of its taps (`benchmarks/small_maps.py`). What is computed is the same, but for
    rounding. In bf16 it was measured on an x86 processor with AVX-512 bf16, in fp32 on one of Intel's with
    AVX-512: elsewhere, in bf16 with AMX, and in every other number format, nothing is changed.

    Args:
        model: On a CPU. Touched are ungrouped convolutions with a 1x1 or 3x3 kernel, half of it as padding, a
            stride of one or two, and no dilation; those with fewer than 64 channels on a side only where their
            kernel is 1x1 and the format fp32.
    """
    formats = []
    if _supports("avx512_bf16") and not _supports("amx_tile"):
        formats.append(torch.bfloat16)
    if is_intel_avx512():
        formats.append(torch.float32)
    if not formats:
        return []
    narrow_too = torch.float32 in formats
    found = turned_into(SmallMapConv2d, model, lambda conv: _applies(conv, narrow_too=narrow_too))
    for name in found:
        conv = model.get_submodule(name)
        assert isinstance(conv, SmallMapConv2d)
        conv.formats = tuple(formats)
    return found


def _fit(images: Tensor) -> bool:
    """Return whether unfolding copies rows of channels; a contiguous network is torch's and stays so."""
    contiguous = images.is_contiguous() and not images.is_contiguous(memory_format=torch.channels_last)
    return images.ndim == 4 and not contiguous


def _supports(instructions: str) -> bool:
    """Return whether torch says that this processor has them; if torch cannot tell, it has AMX and no more."""
    known: Callable[[], bool] | None = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return instructions == "amx_tile" if known is None else known()


def _applies(conv: nn.Conv2d, *, narrow_too: bool) -> bool:
    narrow = min(conv.in_channels, conv.out_channels) < NARROWEST
    return (
        conv.groups == 1
        and conv.kernel_size in ((1, 1), (3, 3))
        and (not narrow or (narrow_too and conv.kernel_size == (1, 1)))
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding == (conv.kernel_size[0] // 2,) * 2
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
    )


class _SmallMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, ways: Ways
    ) -> Tensor:
        kernel = weight.shape[2]
        ctx.stride, ctx.ways = stride, ways
        columns = unfolded(images, kernel, stride) if ways.forward == "product" else None
        ctx.save_for_backward(images, weight, columns if ways.of_weight == "product" else None)
        if ways.forward == "narrow":
            return narrow_maps.convolved(images, weight, bias)
        if columns is None:
            return functional.conv2d(images, weight, bias, stride, kernel // 2)
        taps = weight.permute(0, 2, 3, 1).flatten(1).t()
        return _multiplied(columns, taps, bias, (len(images), len(weight), *output_size(images.shape, stride)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, columns = ctx.saved_tensors
        ways, stride, kernel = ctx.ways, ctx.stride, weight.shape[2]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_images = _image_gradient(gradient, images, weight, stride, ways)
            pixels = gradient.permute(0, 2, 3, 1).flatten(0, 2)
            if not ctx.needs_input_grad[1]:
                pass
            elif ways.of_weight == "taps":
                of_weight = narrow_maps.weight_gradient(gradient, images)
            elif ways.of_weight == "product":
                columns = unfolded(images, kernel, stride) if columns is None else columns
                of_weight = (pixels.t() @ columns).view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
            else:
                of_weight = _torchs(gradient, images, weight, stride, weight=True)
            if ctx.needs_input_grad[2]:
                of_bias = pixels.sum(0)
        return of_images, of_weight, of_bias, None, None


def _image_gradient(gradient: Tensor, images: Tensor, weight: Tensor, stride: int, ways: Ways) -> Tensor:
    if ways.of_images == "narrow":
        return narrow_maps.image_gradient(gradient, weight)
    if ways.of_images == "strided":
        return narrow_maps.strided_image_gradient(gradient, weight, (images.shape[2], images.shape[3]))
    if ways.of_images == "product":  # the convolution by the kernel turned round
        taps = weight.permute(2, 3, 0, 1).flip(0, 1).flatten(0, 2)
        return _multiplied(unfolded(gradient, weight.shape[2], 1), taps, None, images.shape)
    return _torchs(gradient, images, weight, stride, weight=False)


def _torchs(gradient: Tensor, images: Tensor, kernel: Tensor, stride: int, *, weight: bool) -> Tensor:
    beside = kernel.shape[2] // 2, kernel.shape[2] // 2
    return torchs_gradient(gradient, images, kernel, (stride, stride), beside, 1, weight=weight)


def _multiplied(columns: Tensor, taps: Tensor, bias: Tensor | None, size: tuple[int, ...]) -> Tensor:
    """Return the product as maps of `size`, `(N, K, P, Q)`, channels-last.

    Not a view of the product: what follows may well overwrite it, as activations do.
    """
    found = torch.empty(size, dtype=columns.dtype, memory_format=torch.channels_last)
    rows = found.permute(0, 2, 3, 1).flatten(0, 2)
    if bias is None:
        torch.mm(columns, taps, out=rows)
    else:
        torch.addmm(bias, columns, taps, out=rows)
    return found


def unfolded(images: Tensor, kernel: int, stride: int) -> Tensor:
    """Return what each output pixel sees: `(N * P * Q, kernel * kernel * C)`, zeros beside the images.

    Args:
        images: `(N, C, H, W)`; P and Q are H and W over the stride, rounded up.
        kernel: Odd.
        stride: Of rows and columns.
    """
    number, channels = images.shape[:2]
    beside = kernel // 2
    pixels = images.permute(0, 2, 3, 1)
    if kernel == 1:
        return pixels[:, ::stride, ::stride].reshape(-1, channels)
    padded = functional.pad(pixels, (0, 0, beside, beside, beside, beside)).contiguous()
    image, row, column, channel = padded.stride()
    size = (number, *output_size(images.shape, stride), kernel, kernel, channels)
    seen = padded.as_strided(size, (image, row * stride, column * stride, row, column, channel))
    return seen.reshape(-1, kernel * kernel * channels)


__all__ = ["SmallMapConv2d", "quicken_small_maps", "unfolded"]

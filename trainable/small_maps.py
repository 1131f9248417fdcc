"""Convolutions over maps of few pixels: in bf16 on a CPU their gradient, or all of them, as matrix products."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainable import narrow_maps
from trainable.quick_convolution import torchs_gradient, turned_into

FEW_PIXELS = {1: 20, 2: 64}
"""Most output pixels, by stride, for which the gradient of a 3x3 kernel is faster as a product. Up to the first
of them a 1x1 kernel is too, and its convolution."""
FEWER_PIXELS = 4
"""Most for which the convolution by a 3x3 kernel is too; `narrow_maps` says when it is for some more."""
NARROWEST, WIDE = 64, 512
"""Fewest channels that were measured, and output channels whose weights no longer stay in a core's cache."""


class SmallMapConv2d(nn.Conv2d):
    """An `nn.Conv2d` that multiplies matrices under bf16 autocast, where its output has few pixels."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution of `images`, `(N, C, H, W)`, laid out channels-last where it is a product."""
        whole, gradient = self._products(images)
        if not whole and not (gradient and torch.is_grad_enabled()):
            return super().forward(images)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.bfloat16()
            images, weight = images.bfloat16(), self.weight.bfloat16()
            convolved: Tensor = _SmallMap.apply(images, weight, bias, self.stride[0], whole)
            return convolved

    def _products(self, images: Tensor) -> tuple[bool, bool]:
        """Return what `multiplied` says, and that nothing is in other formats and layouts."""
        in_bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
        if not in_bf16 or not _fit(images):
            return False, False
        return multiplied(self.kernel_size[0], self.stride[0], self.out_channels, images.shape)


def quicken_small_maps(model: nn.Module) -> list[str]:
    """Have the convolutions of `model` multiply matrices where that is faster; return their names.

    Over maps of few pixels oneDNN's bf16 kernels without AMX have too little to do at a time: the gradient of
    a wide 3x3 kernel's weights takes up to five times as long as the product of two matrices, into which the
    images are copied once for each of its taps (`benchmarks/small_maps.py`). What is computed is the same, but
    for rounding. It was measured on an x86 processor with AVX-512 bf16: elsewhere, with AMX, and in every
    other number format, nothing is changed.

    Args:
        model: On a CPU. Touched are ungrouped convolutions of at least 64 channels on both sides with a 1x1 or
            3x3 kernel, half of it as padding, a stride of one or two, and no dilation.
    """
    if not _supports("avx512_bf16") or _supports("amx_tile"):
        return []
    return turned_into(SmallMapConv2d, model, _applies)


def multiplied(kernel: int, stride: int, out_channels: int, images: torch.Size) -> tuple[bool, bool]:
    """Return whether the convolution, and whether the gradient of its weights, is faster as a product.

    Args:
        kernel: Rows of a square kernel: 1 or 3.
        stride: 1 or 2.
        out_channels: Of the kernel.
        images: Shape of the input, `(N, C, H, W)`.
    """
    pixels = prod(_output(images, stride))
    few = pixels <= FEW_PIXELS[1]
    if kernel == 1:
        return few, few
    fewer = pixels <= FEWER_PIXELS or narrow_maps.is_narrow(images, out_channels, stride)
    return fewer or (few and out_channels >= WIDE), pixels <= FEW_PIXELS[stride]


def _fit(images: Tensor) -> bool:
    """Return whether unfolding copies rows of channels; a contiguous network is torch's and stays so."""
    return not images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last)


def _supports(instructions: str) -> bool:
    """Return whether torch says that this processor has them; if torch cannot tell, it has AMX and no more."""
    known: Callable[[], bool] | None = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return instructions == "amx_tile" if known is None else known()


def _applies(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == 1
        and min(conv.in_channels, conv.out_channels) >= NARROWEST
        and conv.kernel_size in ((1, 1), (3, 3))
        and conv.stride in ((1, 1), (2, 2))
        and conv.padding == (conv.kernel_size[0] // 2,) * 2
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
    )


class _SmallMap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, whole: bool
    ) -> Tensor:
        kernel, output = weight.shape[2], _output(images.shape, stride)
        worth = kernel == 3 and narrow_maps.is_worth_it(images.shape, len(weight), stride)
        ctx.stride, ctx.by_taps = stride, worth and stride == 1
        ctx.narrow = kernel == 3 and narrow_maps.is_narrow(images.shape, len(weight), stride)
        ctx.strided = worth and stride == 2 and prod(output) <= narrow_maps.FEW_OUTPUTS
        columns = unfolded(images, kernel, stride) if whole and not ctx.narrow else None
        ctx.save_for_backward(images, weight, None if ctx.by_taps else columns)
        if ctx.narrow:
            return narrow_maps.convolved(images, weight, bias)
        if columns is None:
            return functional.conv2d(images, weight, bias, stride, kernel // 2)
        taps = weight.permute(0, 2, 3, 1).flatten(1).t()
        size = (len(images), len(weight), *output)
        # Not a view of the product: what follows may well overwrite it, as activations do.
        convolved = torch.empty(size, dtype=images.dtype, memory_format=torch.channels_last)
        rows = convolved.permute(0, 2, 3, 1).flatten(0, 2)
        if bias is None:
            torch.mm(columns, taps, out=rows)
        else:
            torch.addmm(bias, columns, taps, out=rows)
        return convolved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, columns = ctx.saved_tensors
        stride, kernel = ctx.stride, weight.shape[2]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0] and ctx.narrow:
                of_images = narrow_maps.image_gradient(gradient, weight)
            elif ctx.needs_input_grad[0] and ctx.strided:
                size = images.shape[2], images.shape[3]
                of_images = narrow_maps.strided_image_gradient(gradient, weight, size)
            elif ctx.needs_input_grad[0]:
                beside = kernel // 2, kernel // 2
                of_images = torchs_gradient(gradient, images, weight, (stride, stride), beside, 1, weight=False)
            pixels = gradient.permute(0, 2, 3, 1).flatten(0, 2)
            if ctx.needs_input_grad[1] and ctx.by_taps:
                of_weight = narrow_maps.weight_gradient(gradient, images)
            elif ctx.needs_input_grad[1]:
                columns = unfolded(images, kernel, stride) if columns is None else columns
                of_weight = (pixels.t() @ columns).view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
            if ctx.needs_input_grad[2]:
                of_bias = pixels.sum(0)
        return of_images, of_weight, of_bias, None, None


def _output(images: torch.Size, stride: int) -> tuple[int, int]:
    """Return height and width of the output, half of the kernel being the padding."""
    height, width = ((side - 1) // stride + 1 for side in images[2:])
    return height, width


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
    size = (number, *_output(images.shape, stride), kernel, kernel, channels)
    seen = padded.as_strided(size, (image, row * stride, column * stride, row, column, channel))
    return seen.reshape(-1, kernel * kernel * channels)


__all__ = ["SmallMapConv2d", "multiplied", "quicken_small_maps", "unfolded"]

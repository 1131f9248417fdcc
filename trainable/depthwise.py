"""Depthwise convolutions with wide kernels: the gradient of their weights, several times as fast on a CPU."""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from trainable.quick_convolution import torchs_gradient, turned_into

COLUMNS = 3
"""Of a kernel that oneDNN has a fast gradient for; its rows may be any number."""
MOST_PAIRS = 2500
"""Of an input and an output pixel: where there are few, a matrix product over the batch has them all."""

NARROWEST = 7
"""Columns of a kernel that is worth it: with two threads 5x5 ones lost what they had gained with one."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise `nn.Conv2d` with a gradient of its own, in its weights' format whatever the autocast."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution of `images`, `(N, C, H, W)`; torch's own where `torch.compile` looks on."""
        with torch.autocast("cpu", enabled=False):
            images = images.to(self.weight.dtype)
            if torch.compiler.is_compiling():
                return super().forward(images)
            convolved: Tensor = _Depthwise.apply(images, self.weight, self.bias, self.stride, self.padding)
            return convolved


def quicken_depthwise(model: nn.Module) -> list[str]:
    """Give the depthwise convolutions of `model` the faster gradient; return their names.

    oneDNN's gradient of a depthwise kernel's weights takes 7 to 20 times as long as the convolution itself
    where the kernel is wider than three columns: a quarter of a step of a ConvNeXt. What is computed is the
    same, but for rounding. It is worth it from seven columns on (`benchmarks/depthwise_gradient.py`), and was
    measured on x86 alone: elsewhere, and without oneDNN, nothing is changed.

    Args:
        model: On a CPU. Touched are convolutions with an odd kernel of at least seven columns, half of it as
            padding, and no dilation. Strided ones over more than a few pixels keep torch's gradient.
    """
    return turned_into(DepthwiseConv2d, model, _applies)


def _applies(conv: nn.Conv2d) -> bool:
    rows, columns = conv.kernel_size
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and columns >= NARROWEST
        and rows % 2 == columns % 2 == 1
        and conv.padding == (rows // 2, columns // 2)
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
    )


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int]
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding
        return functional.conv2d(images, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_images = of_weight = of_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_images = torchs_gradient(
                    gradient, images, weight, stride, padding, len(weight), weight=False
                )
            if ctx.needs_input_grad[1]:
                of_weight = weight_gradient(gradient, images, weight, stride, padding)
            if ctx.needs_input_grad[2]:
                of_bias = gradient.sum((0, 2, 3))
        return of_images, of_weight, of_bias, None, None


def weight_gradient(
    gradient: Tensor, images: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of a depthwise kernel, by the fastest way that its geometry allows.

    Args:
        gradient: Of the convolution's output, `(N, C, P, Q)`.
        images: Its input, `(N, C, H, W)`.
        kernel: `(C, 1, R, S)`, R and S odd; only its shape matters.
        stride: Of rows and columns.
        padding: `(R // 2, S // 2)`.

    Returns:
        A tensor of the kernel's shape.
    """
    if stride == (1, 1) and images.shape[2] >= kernel.shape[2]:
        return _by_columns(gradient, images, kernel, padding)
    if images.shape[2:].numel() * gradient.shape[2:].numel() <= MOST_PAIRS:
        return _by_pairs(gradient, images, kernel, stride, padding)
    return torchs_gradient(gradient, images, kernel, stride, padding, len(kernel), weight=True)


def _by_columns(gradient: Tensor, images: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """Take three columns of the kernel at a time: each is a kernel of its own, over shifted images."""
    columns, width = kernel.shape[3], images.shape[3]
    blocks = ceil(columns / COLUMNS)
    narrow = kernel.new_empty(*kernel.shape[:3], COLUMNS)
    found = torch.zeros_like(kernel)
    for first in {round(at * (columns - COLUMNS) / (blocks - 1)) for at in range(blocks)}:
        shift = first - padding[1]  # of the block's left column, relative to the output's
        if shift >= width or shift + COLUMNS <= 1 - width:
            continue  # it never meets an image
        shifted, beside = (images, 1) if shift == -1 else (_shifted(images, shift), 0)
        block = torchs_gradient(
            gradient, shifted, narrow, (1, 1), (padding[0], beside), len(narrow), weight=True
        )
        found[..., first : first + COLUMNS] = block
    return found


def _shifted(images: Tensor, shift: int) -> Tensor:
    """Return `(N, C, H, W + 2)` whose column `w` is column `w + shift` of `images`, or zero beside them."""
    number, channels, height, width = images.shape
    size = (number, channels, height, width + COLUMNS - 1)
    shifted = torch.empty(size, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
    left, right = max(0, -shift), min(size[3], width - shift)
    shifted[..., :left] = 0.0
    shifted[..., right:] = 0.0
    shifted[..., left:right] = images[..., left + shift : right + shift]
    return shifted


def _by_pairs(
    gradient: Tensor, images: Tensor, kernel: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Multiply every output pixel by every input pixel over the batch, and add up what one weight connects."""
    channels = images.shape[1]
    # Laid out for a batch of products: torch would copy any other layout a channel at a time.
    outputs = gradient.permute(1, 2, 3, 0).contiguous().flatten(1, 2)
    inputs = images.permute(1, 0, 2, 3).contiguous().flatten(2)
    pairs = torch.bmm(outputs, inputs).view(channels, -1)
    connected = _connections(
        tuple(gradient.shape[2:]),
        tuple(images.shape[2:]),
        tuple(kernel.shape[2:]),
        tuple(stride),
        tuple(padding),
    )
    return (pairs @ connected.to(pairs)).view_as(kernel)


@lru_cache(maxsize=64)
def _connections(
    outputs: tuple[int, ...],
    inputs: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> Tensor:
    """Return `(pixel pairs, weights)`: 1 where a weight connects an output and an input pixel, else 0."""
    axes = []
    for out, size, taps, step, pad in zip(outputs, inputs, kernel, stride, padding, strict=True):
        tap = torch.arange(size)[None, :] - step * torch.arange(out)[:, None] + pad
        axes.append((tap[..., None] == torch.arange(taps)).float())
    return torch.einsum("ahr,bws->abhwrs", *axes).reshape(-1, kernel[0] * kernel[1])


__all__ = ["DepthwiseConv2d", "quicken_depthwise", "weight_gradient"]

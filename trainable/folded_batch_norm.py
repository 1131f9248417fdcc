"""Batch norm over few channels, several times as fast on a CPU: pixels are folded together."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LINE = 16
"""Sums in a line of a processor's cache: torch's kernels keep those of each thread side by side."""
FEWEST, WIDEST, WIDEST_ALONE = 400_000, 32, 16
"""Numbers in a map from which on folding is worth what its smaller operations cost, and channels below which it
is for several threads, and for one alone."""

_normalised: Any = torch.native_batch_norm
_gradients: Any = torch.ops.aten.native_batch_norm_backward
_statistics: Any = torch.ops.aten.batch_norm_update_stats


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """An `nn.BatchNorm2d` that trains on large maps with several pixels as one of more channels."""

    def forward(self, images: Tensor) -> Tensor:
        """Return `images`, `(N, C, H, W)`, normalised."""
        pixels = folded_pixels(images) if self.training else 0
        return self._folded(images, pixels) if pixels else super().forward(images)

    def _folded(self, images: Tensor, pixels: int) -> Tensor:
        rate, mean, var = 0.0, None, None
        if self.track_running_stats:
            mean, var, seen = self.running_mean, self.running_var, self.num_batches_tracked
            if seen is not None:
                seen.add_(1)
            if self.momentum is not None:
                rate = self.momentum
            elif seen is not None:
                rate = 1.0 / float(seen)
        normalised: Tensor = _Folded.apply(images, self.weight, self.bias, mean, var, rate, self.eps, pixels)
        return normalised


class FoldedBatchNormAct2d(FoldedBatchNorm2d, BatchNormAct2d):  # type: ignore[misc]  # timm has no types
    """The same with timm's dropout and activation after it."""

    def forward(self, images: Tensor) -> Tensor:
        """Return `images`, `(N, C, H, W)`, normalised and activated."""
        pixels = folded_pixels(images) if self.training else 0
        after: Any = self  # timm has no types
        activated: Tensor = (
            after.act(after.drop(self._folded(images, pixels)))
            if pixels
            else BatchNormAct2d.forward(self, images)
        )
        return activated


FOLDED: dict[type[nn.Module], type[FoldedBatchNorm2d]] = {
    nn.BatchNorm2d: FoldedBatchNorm2d,
    BatchNormAct2d: FoldedBatchNormAct2d,
}


def quicken_batch_norm(model: nn.Module) -> list[str]:
    """Have batch norms of `model` over few channels train on folded pixels; return their names.

    Torch 2.14's kernels for channels-last maps take up to ten times as long where channels are few and no
    multiple of 16, as the 8, 12 and 24 of small networks, two threads often longer than one: it must be the
    lines of cache in which one thread's sums end and the next one's begin. Two, four or more pixels as one,
    with as many times the channels, fill lines; what was counted for each is put together. What is computed
    is the same, but for rounding (`benchmarks/folded_batch_norm.py`).

    Args:
        model: On a CPU. Only the classes of its modules change.
    """
    found = []
    for name, module in model.named_modules():
        kind = FOLDED.get(type(module))
        if kind is not None and module.affine and module.num_features < WIDEST and module.num_features % LINE:
            module.__class__ = kind
            found.append(name)
    return found


def folded_pixels(images: Tensor) -> int:
    """Return how many pixels of `images`, `(N, C, H, W)`, to take as one; 0 for torch's own way."""
    number, channels, height, width = images.shape
    widest = WIDEST if torch.get_num_threads() > 1 else WIDEST_ALONE
    if (
        channels >= widest
        or images.numel() < FEWEST
        or images.device.type != "cpu"
        or not images.is_contiguous(memory_format=torch.channels_last)
    ):
        return 0
    pixels = 1
    while pixels * channels % LINE:
        pixels *= 2
    return pixels if pixels > 1 and number * height * width % pixels == 0 else 0


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        rate: float,
        eps: float,
        pixels: int,
    ) -> Tensor:
        folded = _fold(images, pixels)
        each = weight.new_zeros(len(weight) * pixels)  # which nobody reads
        means, variances = (part.view(pixels, -1) for part in _statistics(folded, each, each.clone(), 0.0))
        mean = means.mean(0)
        var = variances.mean(0) + means.var(0, correction=0)
        if running_mean is not None and running_var is not None:
            count = images.numel() // len(weight)
            running_mean.lerp_(mean, rate)
            running_var.lerp_(var * (count / (count - 1)), rate)
        ctx.save_for_backward(images, weight, mean, var)
        ctx.eps, ctx.pixels = eps, pixels
        wide = (part.repeat(pixels) for part in (weight, bias, mean, var))
        normalised = torch.empty_like(images)  # not a view: activations overwrite it
        outputs = _fold(normalised, pixels), mean.new_empty(0), mean.new_empty(0)
        _normalised(folded, *wide, False, 0.0, eps, out=outputs)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, var = ctx.saved_tensors
        pixels, eps = ctx.pixels, ctx.eps
        folded, count = _fold(images, pixels), images.numel() // len(weight)
        sent = _fold(gradient.contiguous(memory_format=torch.channels_last), pixels)
        inverse = torch.rsqrt(var + eps)
        wide_weight, *saved = (part.repeat(pixels) for part in (weight, mean, inverse))
        wanted = [ctx.needs_input_grad[0], True, True]
        # Torch takes off what each group of pixels depends on by itself; its difference from all is added.
        found = _gradients(sent, folded, wide_weight, None, None, *saved, True, eps, wanted)
        of_images, (weights, biases) = found[0], (part.view(pixels, -1) for part in found[1:])
        of_weight, of_bias = weights.sum(0), biases.sum(0)
        if ctx.needs_input_grad[0]:
            slope = weight * inverse.square() * (weights * pixels - of_weight) / count
            offset = weight * inverse * (biases * pixels - of_bias) / count - slope * mean
            slope, offset = slope.flatten(), offset.flatten()
            none = torch.zeros_like(slope), torch.full_like(slope, 1.0 - eps)
            added = _normalised(folded, slope, offset, *none, False, 0.0, eps)[0]
            of_images = _unfold(of_images.add_(added), images)
        return of_images, of_weight, of_bias, None, None, None, None, None


def _fold(images: Tensor, pixels: int) -> Tensor:
    """Return `(1, pixels * C, N * H * W / pixels, 1)`, the same memory, from channels-last `(N, C, H, W)`."""
    channels = images.shape[1]
    return images.permute(0, 2, 3, 1).reshape(1, -1, 1, pixels * channels).permute(0, 3, 1, 2)


def _unfold(folded: Tensor, images: Tensor) -> Tensor:
    """Return what `_fold` made of a tensor of the shape of `images` as one again."""
    number, channels, height, width = images.shape
    return folded.permute(0, 2, 3, 1).reshape(number, height, width, channels).permute(0, 3, 1, 2)


__all__ = ["FoldedBatchNorm2d", "FoldedBatchNormAct2d", "folded_pixels", "quicken_batch_norm"]

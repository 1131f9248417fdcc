"""Means over an image's pixels whose gradient lies in memory as the images do: channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.layers import EffectiveSEModule, SEModule
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from timm.models import _efficientnet_blocks
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

PIXELS = (2, 3)
"""The dimensions of rows and columns in `(N, C, H, W)`."""


def pixel_mean(images: Tensor, keepdim: bool = False) -> Tensor:
    """Return the mean over pixels: `(N, C)`, or `(N, C, 1, 1)` with `keepdim`, of images `(N, C, H, W)`."""
    means = images.permute(0, 2, 3, 1).mean((1, 2))
    return means[:, :, None, None] if keepdim else means


class LaidOutAvgPool2d(nn.AdaptiveAvgPool2d):
    """A global average pooling."""

    def forward(self, images: Tensor) -> Tensor:
        """Return `(N, C, 1, 1)` for images `(N, C, H, W)`."""
        return pixel_mean(images, keepdim=True) if images.dim() == 4 else super().forward(images)


class _Means(TorchFunctionMode):
    """Within it `images.mean((2, 3))` is `pixel_mean`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.mean and len(args) == 2 and set(kwargs) <= {"keepdim"} and args[0].dim() == 4:
            images, dims = args
            if isinstance(dims, tuple | list) and tuple(dims) == PIXELS:
                return pixel_mean(images, **kwargs)
        return func(*args, **kwargs)


class _LaidOut(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        """Return what the class beside this one makes of images `(N, C, H, W)`."""
        with _Means():
            made: Tensor = super().forward(images)
            return made


class LaidOutSqueezeExcite(_LaidOut, _efficientnet_blocks.SqueezeExcite):  # type: ignore[misc]  # timm has no types
    """Of EfficientNets, MobileNetV3s, GhostNets."""


class LaidOutSEModule(_LaidOut, SEModule):  # type: ignore[misc]  # timm has no types
    """Of ResNets, RegNets."""


class LaidOutEffectiveSEModule(_LaidOut, EffectiveSEModule):  # type: ignore[misc]  # timm has no types
    """Of VoVNets."""


class LaidOutFastAvgPool(_LaidOut, FastAdaptiveAvgPool):  # type: ignore[misc]  # timm has no types
    """Timm's other global average pooling."""


LAID_OUT: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: LaidOutAvgPool2d,
    _efficientnet_blocks.SqueezeExcite: LaidOutSqueezeExcite,
    SEModule: LaidOutSEModule,
    EffectiveSEModule: LaidOutEffectiveSEModule,
    FastAdaptiveAvgPool: LaidOutFastAvgPool,
}
"""What a module of a class becomes."""


def lay_out_means(model: nn.Module) -> list[str]:
    """Have global pooling and squeeze-and-excitation send gradients channels-last; return their names.

    Torch gives the gradient of a mean over pixels the layout of a contiguous tensor, whatever that of the
    images: every layer before it that adds, multiplies or normalises then takes several times as long on
    gradients that lie otherwise than the maps that they belong to. The mean and its gradient are the
    same to the bit; the layers before may add up in another order (`benchmarks/laid_out_mean.py`).

    Args:
        model: On a CPU, in channels-last layout. Only the classes of its modules change.
    """
    found = []
    for name, module in model.named_modules():
        kind = LAID_OUT.get(type(module))
        if kind is None or (kind is LaidOutAvgPool2d and module.output_size not in (1, (1, 1))):
            continue
        module.__class__ = kind
        found.append(name)
    return found


__all__ = ["LAID_OUT", "LaidOutAvgPool2d", "lay_out_means", "pixel_mean"]

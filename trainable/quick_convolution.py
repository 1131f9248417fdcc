"""What convolutions with faster ways of their own share: where they are taken, and torch's own gradient."""

from __future__ import annotations

import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn

_X86 = ("x86_64", "AMD64")

_backward = torch.ops.aten.convolution_backward


def turned_into(kind: type[nn.Conv2d], model: nn.Module, applies: Callable[[nn.Conv2d], bool]) -> list[str]:
    """Make each plain `nn.Conv2d` of `model` for which `applies` holds a `kind`; return their names.

    Only the class changes: the weights, their names and copies of the model are what they were. Nothing is
    changed without oneDNN or off x86, where nothing was measured.

    Args:
        kind: Of the same parameters and attributes.
        model: On a CPU.
        applies: Whether a convolution's geometry is one that `kind` is faster for.
    """
    has_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available
    if not has_onednn() or platform.machine() not in _X86:
        return []
    found = []
    for name, module in model.named_modules():
        if type(module) is nn.Conv2d and applies(module):
            module.__class__ = kind
            found.append(name)
    return found


def torchs_gradient(
    gradient: Tensor,
    images: Tensor,
    kernel: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
    *,
    weight: bool,
) -> Tensor:
    """Return torch's own gradient, of the kernel where `weight` holds, else of the images.

    Args:
        gradient: Of the convolution's output, `(N, K, P, Q)`.
        images: Its input, `(N, C, H, W)`.
        kernel: `(K, C / groups, R, S)`.
        stride: Of rows and columns.
        padding: Likewise, in pixels.
        groups: Of channels.
        weight: Which of the two.
    """
    mask = [not weight, weight, False]
    found = _backward(gradient, images, kernel, None, stride, padding, [1, 1], False, [0, 0], groups, mask)
    wanted: Tensor = found[int(weight)]
    return wanted


__all__ = ["torchs_gradient", "turned_into"]

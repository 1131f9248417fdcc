"""The first convolution of trained weights, for images with another number of channels than theirs."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the first convolution that is met, and its path."""
    return next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))


def in_colour(state: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    """Return weights of grey images as such of RGB: the same answer to three equal channels.

    Args:
        state: Tensors by name.
        key: Name of the first convolution's weight `(out, in, kH, kW)`; others pass unchanged.
    """
    weight = state.get(key)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 1:
        return state
    return {**state, key: weight.repeat(1, 3, 1, 1) / 3}


def sum_channels(model: nn.Module) -> None:
    """Have the first convolution take grey images, its weights summed over the colours."""
    _, conv = first_convolution(model)
    with torch.no_grad():
        conv.weight = nn.Parameter(conv.weight.sum(dim=1, keepdim=True))
    conv.in_channels = 1

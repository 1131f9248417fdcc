"""Torch's fused optimizers, as fast on channels-last weights as on contiguous ones.

On a CPU torch's fused kernels take twice as long and more where weights are not contiguous. Turned round, with
gradients and state, they are: views of the same numbers, each of which takes its step by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FEWEST = 100_000
"""Numbers of a weight from which on turning it round, some twenty microseconds, is the lesser part."""


class _Flat(torch.optim.Optimizer):
    """Takes its step on weights that are turned round. Hooks on steps, if there were any, would run twice."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take torch's step; a closure, which must see the weights as they are, is called before.

        Args:
            closure: Computes the loss and the gradients.

        Returns:
            The loss, or None without a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with flattened(self):
            super().step()
        return loss


class FlatSGD(_Flat, torch.optim.SGD):
    """`torch.optim.SGD`."""


class FlatAdam(_Flat, torch.optim.Adam):
    """`torch.optim.Adam`."""


class FlatAdamW(_Flat, torch.optim.AdamW):
    """`torch.optim.AdamW`."""


@contextmanager
def flattened(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Have large channels-last weights on a CPU be contiguous, `(K, H, W, C)`, while the block runs."""
    turned: list[Tensor] = []
    try:
        for weight in (p for group in optimizer.param_groups for p in group["params"]):
            if _is_to_be_turned(optimizer, weight):
                _turn(optimizer, weight, (0, 2, 3, 1))
                turned.append(weight)
        yield
    finally:
        for weight in turned:
            _turn(optimizer, weight, (0, 3, 1, 2))


def _is_to_be_turned(optimizer: torch.optim.Optimizer, weight: Tensor) -> bool:
    """Return whether `weight` is large and, with its gradient and all of its state, laid out channels-last."""
    if weight.ndim != 4 or weight.grad is None or weight.device.type != "cpu" or weight.numel() < FEWEST:
        return False
    parts = [weight, weight.grad, *_state_of(optimizer, weight).values()]
    return not weight.is_contiguous() and all(
        part.is_contiguous(memory_format=torch.channels_last) for part in parts
    )


def _state_of(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, Tensor]:
    """Return what the optimizer keeps for each number of `weight`."""
    kept = optimizer.state.get(weight, {})
    return {
        name: value for name, value in kept.items() if isinstance(value, Tensor) and value.shape == weight.shape
    }


def _turn(optimizer: torch.optim.Optimizer, weight: Tensor, dims: tuple[int, int, int, int]) -> None:
    """Turn a weight, its gradient, which must be of its shape when it is set, and its state."""
    gradient, weight.grad = weight.grad, None
    state = _state_of(optimizer, weight)
    weight.data = weight.data.permute(dims)
    weight.grad = None if gradient is None else gradient.permute(dims)
    for name, value in state.items():
        optimizer.state[weight][name] = value.permute(dims)


__all__ = ["FlatAdam", "FlatAdamW", "FlatSGD", "flattened"]

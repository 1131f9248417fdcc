"""Max pooling before ReLU, not after it: the same numbers to the bit, and a quarter of the map for ReLU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import timm.models.resnet
import torchvision.models.resnet
from torch import Tensor, nn
from torch.nn import functional

_STEMS = {timm.models.resnet.ResNet: ("act1", "maxpool"), torchvision.models.resnet.ResNet: ("relu", "maxpool")}
"""Networks whose forward pass hands what one module returns to the other, and to nothing else."""


class LaterReLU(nn.ReLU):
    """An `nn.ReLU` that leaves its work to the pooling after it, unless someone reads along."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return `maps` as they are; with a hook their positive parts, of which another ReLU makes the same."""
        return super().forward(maps) if self._forward_hooks else maps


class PoolThenReLU(nn.MaxPool2d):
    """An `nn.MaxPool2d` and the ReLU that stood before it."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the positive part of each window's largest number."""
        return functional.relu_(super().forward(maps))


def pool_first(model: nn.Module) -> list[str]:
    """Have `model` pool before its ReLUs where a max pooling follows one; return the poolings' names.

    Gradients are the same too: of a window without positive numbers nothing passes either way, of another its
    first largest number has it all. Only the classes change. A forward hook on the ReLU sees its output; what
    reads the pooling's input, or calls the ReLU by itself, sees what that was given.

    Args:
        model: Neighbours are known in `nn.Sequential`s and in the stems of timm's and torchvision's ResNets.
    """
    uses = Counter(id(child) for parent in model.modules() for child in parent._modules.values())
    names = {id(module): name for name, module in model.named_modules()}
    found = []
    for activation, pooling in list(_neighbours(model)):
        if uses[id(activation)] == uses[id(pooling)] == 1 and not pooling.return_indices:
            activation.__class__, pooling.__class__ = LaterReLU, PoolThenReLU
            found.append(names[id(pooling)])
    return found


def _neighbours(model: nn.Module) -> Iterator[tuple[nn.ReLU, nn.MaxPool2d]]:
    """Yield each plain ReLU with the plain max pooling that is given what it returns."""
    for parent in model.modules():
        pairs = list(pairwise(parent)) if type(parent) is nn.Sequential else []
        stem = _STEMS.get(type(parent))
        if stem is not None:
            pairs.append((getattr(parent, stem[0]), getattr(parent, stem[1])))
        for activation, pooling in pairs:
            if type(activation) is nn.ReLU and type(pooling) is nn.MaxPool2d:
                yield activation, pooling


__all__ = ["LaterReLU", "PoolThenReLU", "pool_first"]

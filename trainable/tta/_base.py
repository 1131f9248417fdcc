"""What test-time augmentation is: further views of an image, whose probabilities are averaged with its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from trainable.augment import Flips
from trainable.augment.pipeline import warped
from trainable.component import Component
from trainable.registry import Registry

View = Callable[[Tensor], Tensor]
"""Normalised images `(B, C, H, W)` to as many of the same size; what comes in from outside is the mean."""


class ViewSet(Component, ABC):
    """Config of the views that a chosen epoch, and an exported model, looks at.

    Stored are the logarithms of the mean probabilities, so that softmax gives that mean back. The epoch is
    chosen, and ASHA decides, by the plain image alone; only the chosen epoch's predictions take the views.
    """

    name: str

    @abstractmethod
    def views(self, flips: Flips) -> tuple[View, ...]:
        """Return the views beside the image itself, given the mirrorings that leave a class what it is."""


def mirrored(flips: Flips) -> tuple[View, ...]:
    """Return every mirroring that `flips` allows; turns by right angles only for square images."""
    dims = {
        "none": (),
        "h": ((3,),),
        "v": ((2,),),
        "hv": ((3,), (2,), (2, 3)),
        "dihedral": ((3,), (2,), (2, 3)),
    }
    plain: tuple[View, ...] = tuple(_Mirror(axes) for axes in dims[flips])
    if flips != "dihedral":
        return plain
    return (*plain, *(_Mirror(axes, transposed=True) for axes in ((), (3,), (2,), (2, 3))))


class _Mirror:
    def __init__(self, axes: tuple[int, ...], *, transposed: bool = False) -> None:
        self.axes, self.transposed = axes, transposed

    def __call__(self, images: Tensor) -> Tensor:
        if self.transposed and images.shape[2] == images.shape[3]:
            images = images.transpose(2, 3)
        return images.flip(self.axes)


class Zoom:
    """Shows the image `factor` times as large, about its centre, in the same frame."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, images: Tensor) -> Tensor:
        """Return the zoomed images."""
        inverse = torch.diag(torch.tensor([1.0 / self.factor, 1.0 / self.factor, 1.0], device=images.device))
        matrices = inverse.expand(len(images), 3, 3)
        height, width = images.shape[2:]
        return warped(images, matrices, (height, width))


TTA: Registry[ViewSet] = Registry("tta", ViewSet)

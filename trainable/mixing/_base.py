"""What mixing is: images blended with others of their batch, and two targets with a share for each image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from trainable.component import Component
from trainable.registry import Registry


class Mixed(NamedTuple):
    """A mixed batch.

    Attributes:
        images: `(B, C, H, W)`.
        targets: Class of the image itself, `(B,)`.
        partners: Class of the image that was mixed in, `(B,)`; equal to `targets` where none was.
        share: λ, the weight of `targets`, `(B,)` in [0, 1].
    """

    images: Tensor
    targets: Tensor
    partners: Tensor
    share: Tensor

    @classmethod
    def unmixed(cls, images: Tensor, targets: Tensor) -> Mixed:
        """Return a batch in which every λ is 1."""
        return cls(images, targets, targets, torch.ones(len(targets), device=images.device))


class Mixing(Component, ABC):
    """Config of a way of mixing."""

    name: str

    @abstractmethod
    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Mixed:
        """Mix normalised images `(B, C, H, W)` and targets `(B,)`; `generator` lives on their device."""


MIXING: Registry[Mixing] = Registry("mixing", Mixing)

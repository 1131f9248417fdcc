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
        share: λ, the weight of `targets`, `(B,)` float32 in [0, 1].
        views: The same images augmented anew and mixed alike, `(B, V, C, H, W)`, where a loss compares them.
    """

    images: Tensor
    targets: Tensor
    partners: Tensor
    share: Tensor
    views: Tensor | None = None

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


class Pairs:
    """Each image of a batch beside another one, and the draws that decide how the two become one.

    Everything stays on the device: a choice is a mask, never an `if` that would wait for it.

    Args:
        images: `(B, C, H, W)`.
        targets: `(B,)`.
        generator: The only source of randomness, on their device.
        per_sample: Draw for each image; else once for the whole batch.
    """

    def __init__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator, *, per_sample: bool
    ) -> None:
        self.images, self.targets, self.generator = images, targets, generator
        self.num_draws = len(images) if per_sample else 1
        self.partner = torch.randperm(len(images), generator=generator, device=images.device)

    def uniform(self) -> Tensor:
        """Return `(D,)` values in [0, 1), D the batch size or 1."""
        return torch.rand(self.num_draws, generator=self.generator, device=self.images.device)

    def beta(self, alpha: float) -> Tensor:
        """Return `(D,)` float32 draws from Beta(alpha, alpha).

        A Beta is the share of one of two Gammas. torch's distributions take no generator, the sampler of
        Gammas beneath them does; in double precision a small alpha does not make both of them 0.
        """
        shape = torch.full((2, self.num_draws), alpha, dtype=torch.float64, device=self.images.device)
        gammas: Tensor = torch._standard_gamma(shape, generator=self.generator)
        return (gammas[0] / gammas.sum(dim=0)).float()

    def mixed(self, images: Tensor, share: Tensor) -> Mixed:
        """Return the batch of `images`, in which each target weighs `share` `(D,)`."""
        share = share.expand(len(self.targets)).contiguous()
        partners = torch.where(share < 1.0, self.targets[self.partner], self.targets)
        return Mixed(images, self.targets, partners, share)


MIXING: Registry[Mixing] = Registry("mixing", Mixing)

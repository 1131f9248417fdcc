"""Four kinds of augmentation, each in the form in which a whole batch of them costs least.

Geometry becomes one affine matrix per image, colour one 3x4 matrix per image, masks one product; the
pipeline (`trainable/augment/pipeline.py`) composes each kind and touches the pixels once a kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainable.component import Component
from trainable.registry import Registry

Flips = Literal["none", "h", "v", "hv", "dihedral"]
"""Which mirrorings leave a class what it is: none, horizontal, vertical, both, or those and right angles."""


@dataclass(frozen=True)
class Draw:
    """What an operation may know of the batch that it draws for.

    Attributes:
        batch_size: B.
        height: Image height in pixels.
        width: Image width in pixels.
        flips: The mirrorings that the data allow.
        generator: The only source of randomness; it lives on `device`.
        device: Where the batch is.
        rarity: How rare each image's class is, `(B,)` in [0, 1]: 0 for the largest class, 1 for the
            smallest, linear in the logarithm of the count.
        epoch_fraction: Share of training done, in [0, 1).
    """

    batch_size: int
    height: int
    width: int
    flips: Flips
    generator: torch.Generator
    device: torch.device
    rarity: Tensor
    epoch_fraction: float

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        """Return `(B, *shape)` uniform values in [low, high)."""
        unit = torch.rand((self.batch_size, *shape), generator=self.generator, device=self.device)
        return low + (high - low) * unit

    def chance(self, p: float | Tensor) -> Tensor:
        """Return `(B,)` booleans, each true with probability `p`."""
        return self.uniform() < p

    def at_size(self, height: int, width: int) -> Draw:
        """Return the same for images of another size."""
        return replace(self, height=height, width=width)

    def host_rng(self) -> np.random.Generator:
        """Return a generator on the host, for choices that decide which kernels run.

        Such choices made on the device would have to be read back, and the host would wait for it. It
        follows from the seed of `generator`, which the pipeline sets anew for every batch.
        """
        return np.random.default_rng(self.generator.initial_seed())


class AugmentOp(Component, ABC):
    """Config of one augmentation; the subclass's kind says how the pipeline applies it."""

    name: str

    @property
    def inactive(self) -> bool:
        """True where the parameters leave every image what it is; the pipeline then skips the operation."""
        return False


class RareBoost(AugmentOp):
    """An operation that can be stronger for rare classes."""

    rare_boost: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """How much is added for the rarest class: its strength is `1 + rare_boost` times the largest class's."""

    def boosted(self, value: float, draw: Draw, limit: float = float("inf")) -> Tensor:
        """Return `value` for each image, `(B,)`: times `1 + rare_boost * rarity`, at most `limit`."""
        return (value * (1.0 + self.rare_boost * draw.rarity)).clamp(max=limit)


class Geometry(AugmentOp):
    """Moves pixels."""

    exact: ClassVar[bool] = False
    """True where every pixel lands on a pixel (flips, whole translations): nothing is interpolated."""

    @abstractmethod
    def matrix(self, draw: Draw) -> Tensor:
        """Return `(B, 3, 3)` homogeneous matrices from output to input coordinates.

        Coordinates are in *pixels* about the image's centre, x to the right and y down, so that a
        rotation stays one where height and width differ. What falls outside is filled with zeros
        after the channel mean was subtracted, so with the mean.
        """


def affine(draw: Draw, rows: Sequence[Sequence[float | Tensor]]) -> Tensor:
    """Return `(B, 3, 3)` matrices whose first two rows are `rows`; each entry a number or `(B,)`."""
    matrices = torch.zeros(draw.batch_size, 3, 3, device=draw.device)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            if isinstance(entry, Tensor) or entry != 0.0:
                matrices[:, i, j] = entry
    matrices[:, 2, 2] = 1.0
    return matrices


class Colour(AugmentOp):
    """Changes each pixel by one affine map of its channels."""

    @abstractmethod
    def matrix(self, draw: Draw, channels: int) -> Tensor:
        """Return `(B, channels, channels + 1)` maps of values in [0, 1]; the last column is added."""


class ImageOp(AugmentOp):
    """Anything else that is done to pixels in [0, 1], batched (posterise, equalise, AugMix …)."""

    @abstractmethod
    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return `(B, C, H, W)` images in [0, 1] from such images, which may be overwritten."""


class Mask(AugmentOp):
    """Blanks out parts of an image: what it hides becomes zero after normalisation."""

    @abstractmethod
    def keep(self, draw: Draw) -> Tensor:
        """Return `(B, 1, H, W)` booleans, false where the image is hidden."""


AUGMENT: Registry[AugmentOp] = Registry("augment", AugmentOp)

__all__ = [
    "AUGMENT",
    "AugmentOp",
    "Colour",
    "Draw",
    "Flips",
    "Geometry",
    "ImageOp",
    "Mask",
    "RareBoost",
    "affine",
]

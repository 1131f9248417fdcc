"""Augmentation: random operations on batches of images, on the device. One file each."""

from trainable.augment._base import (
    AUGMENT,
    AugmentOp,
    Colour,
    Draw,
    Flips,
    Geometry,
    ImageOp,
    Mask,
    RareBoost,
    affine,
)

AUGMENT.discover(__name__, list(__path__))

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

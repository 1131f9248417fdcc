"""TrivialAugment: one random operation at a random strength, nothing to tune."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, ImageOp, RareBoost
from trainable.augment.operations import COLOUR_SPACE, Magnitudes, applied, on_device, random_signs

_WIDE: dict[str, Magnitudes] = {
    "shear_x": Magnitudes(0.0, 0.99, signed=True),
    "shear_y": Magnitudes(0.0, 0.99, signed=True),
    "rotate": Magnitudes(0.0, 135.0, signed=True),
    **{name: Magnitudes(0.0, 0.99, signed=True) for name in ("brightness", "colour", "contrast", "sharpness")},
    "posterize": Magnitudes(8.0, 2.0),
    **{name: COLOUR_SPACE[name] for name in ("solarize", "auto_contrast", "equalize")},
}
_NAMES = ("identity", "translate_x", "translate_y", *_WIDE)
_MAX_SHIFT_PIXELS = 32


@AUGMENT.add
class TrivialAugment(RareBoost, ImageOp):
    """Apply one operation, drawn uniformly from fourteen, at one of 31 strengths, in the paper's wide space.

    Translations reach 32 pixels, or the whole side where that is smaller; rotations reach 135 degrees:
    where orientation tells the class, this is the wrong choice.
    """

    reference: ClassVar[str] = "Müller and Hutter 2021, arXiv 2103.10158, algorithm 1, space 'Wide'"
    name: Literal["trivial_augment"] = "trivial_augment"

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Apply the operation drawn for each image."""
        rng = draw.host_rng()
        shifts = {
            name: Magnitudes(0.0, min(_MAX_SHIFT_PIXELS / side, 1.0), signed=True)
            for name, side in (("translate_x", draw.width), ("translate_y", draw.height))
        }
        names = np.array(_NAMES)[rng.integers(len(_NAMES), size=draw.batch_size)].tolist()
        strengths = on_device(rng.integers(31, size=draw.batch_size) / 30, draw.device)
        signs = random_signs(rng, draw.batch_size, draw.device)
        strengths = (strengths * self.boosted(1.0, draw)).clamp(max=1.0)
        return applied(images, names, strengths, signs, {**_WIDE, **shifts})

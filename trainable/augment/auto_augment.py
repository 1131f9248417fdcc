"""AutoAugment: policies that were searched on other data, on batches."""

from __future__ import annotations

from functools import cache
from typing import Annotated, ClassVar, Literal

import numpy as np
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, ImageOp, RareBoost
from trainable.augment.operations import (
    COLOUR_SPACE,
    GEOMETRIC_SPACE,
    Magnitudes,
    applied,
    on_device,
    random_signs,
)
from trainable.component import Choices

PolicyName = Literal["cifar10", "imagenet", "svhn"]
_SPACE = {**GEOMETRIC_SPACE, **COLOUR_SPACE, "invert": Magnitudes()}
Step = tuple[str, float, float]


@AUGMENT.add
class AutoAugment(RareBoost, ImageOp):
    """Each image gets one of a policy's 25 pairs of operations, each with its own probability and strength.

    `svhn` moves and inverts; `cifar10` and `imagenet` mostly change colours. The policies were found with
    many GPU hours on those sets: none knows yours, and some invert colours or shear strongly.
    """

    reference: ClassVar[str] = "Cubuk et al. 2018, arXiv 1805.09501, appendix A (tables 7 to 9)"
    name: Literal["auto_augment"] = "auto_augment"
    policy: Annotated[PolicyName, Choices(("cifar10", "imagenet", "svhn"))] = "cifar10"

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Apply a pair drawn for each image."""
        rng, pairs = draw.host_rng(), _pairs(self.policy)
        drawn = rng.integers(len(pairs), size=draw.batch_size)
        boost = self.boosted(1.0, draw)
        for number in range(2):
            steps = [pairs[pair][number] for pair in drawn]
            happens = rng.random(draw.batch_size) < [p for _, p, _ in steps]
            names = [name if yes else "identity" for (name, _, _), yes in zip(steps, happens, strict=True)]
            strengths = on_device(np.array([strength for _, _, strength in steps]), draw.device)
            signs = random_signs(rng, draw.batch_size, draw.device)
            images = applied(images, names, (strengths * boost).clamp(max=1.0), signs, _SPACE)
        return images


@cache
def _pairs(policy: PolicyName) -> list[tuple[Step, Step]]:
    """Return torchvision's table of a policy: name here, probability, strength in [0, 1]."""
    from torchvision.transforms import AutoAugment as Torchvision
    from torchvision.transforms import AutoAugmentPolicy

    names = {ours.replace("_", "").replace("colour", "color"): ours for ours in _SPACE}
    return [
        (
            (names[first[0].lower()], first[1], (first[2] or 0) / 9),
            (names[second[0].lower()], second[1], (second[2] or 0) / 9),
        )
        for first, second in Torchvision(AutoAugmentPolicy(policy)).policies
    ]

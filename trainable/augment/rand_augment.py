"""RandAugment: a few random operations, all at one strength."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, ImageOp, RareBoost
from trainable.augment.operations import COLOUR_SPACE, GEOMETRIC_SPACE, applied, random_signs
from trainable.component import Range

_SPACE = {**GEOMETRIC_SPACE, **COLOUR_SPACE}
_NAMES = ("identity", *_SPACE)


@AUGMENT.add
class RandAugment(RareBoost, ImageOp):
    """Apply `num_ops` operations to each image, drawn uniformly from fourteen (identity among them)."""

    reference: ClassVar[str] = "Cubuk et al. 2019, arXiv 1909.13719, section 3"
    name: Literal["rand_augment"] = "rand_augment"
    num_ops: Annotated[int, Field(ge=1, le=8), Range(1, 3)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30), Range(3, 20)] = 9
    """The strength of all of them, of 30, as in torchvision (the paper counts to 10 or 30)."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Apply operations drawn for each image."""
        rng = draw.host_rng()
        strengths = self.boosted(self.magnitude / 30, draw, 1.0)
        for _ in range(self.num_ops):
            names = np.array(_NAMES)[rng.integers(len(_NAMES), size=draw.batch_size)].tolist()
            signs = random_signs(rng, draw.batch_size, draw.device)
            images = applied(images, names, strengths.to(torch.float32), signs, _SPACE)
        return images

"""Mixup or CutMix, chosen by one draw."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from analysis.errors import UsageError
from trainable.component import Choices, Range
from trainable.mixing._base import MIXING, Mixed, Mixing, Pairs
from trainable.mixing.cutmix import boxes, paste
from trainable.mixing.mixup import blend


@MIXING.add
class MixupOrCutMix(Mixing):
    """Mixup with probability `p_mixup`, CutMix with `p_cutmix`, neither with the rest.

    One draw decides. The usual pair of independent draws lets CutMix overwrite Mixup: 0.5 and 0.5 come
    out as 25 % Mixup, 50 % CutMix and 25 % neither, which are the shares by default here.
    """

    name: Literal["mixup_or_cutmix"] = "mixup_or_cutmix"
    reference: ClassVar[str] = "Zhang et al. 2018, arXiv 1710.09412; Yun et al. 2019, arXiv 1905.04899"
    p_mixup: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.5)] = 0.25
    p_cutmix: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.5)] = 0.5
    mixup_alpha: Annotated[float, Field(ge=0.05, le=100.0), Range(0.1, 1.0)] = 0.2
    cutmix_alpha: Annotated[float, Field(ge=0.05, le=100.0), Range(0.2, 1.0)] = 1.0
    per_sample: Annotated[bool, Choices((False, True))] = False
    """Draw for each image instead of once for the batch."""

    @model_validator(mode="after")
    def _at_most_certain(self) -> MixupOrCutMix:
        if self.p_mixup + self.p_cutmix > 1.0 + 1e-9:
            raise UsageError(
                f"p_mixup + p_cutmix must be at most 1, got {self.p_mixup} + {self.p_cutmix}",
                "one draw chooses: independent draws of p and q are p_mixup = p·(1 − q) and p_cutmix = q",
            )
        return self

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Mixed:
        """Mix normalised images `(B, C, H, W)` and targets `(B,)`; `generator` lives on their device."""
        pairs = Pairs(images, targets, generator, per_sample=self.per_sample)
        draw = pairs.uniform()
        is_mixup = draw < self.p_mixup
        is_cutmix = (draw < self.p_mixup + self.p_cutmix) & ~is_mixup
        blended = torch.where(is_mixup, pairs.beta(self.mixup_alpha), 1.0)
        inside, kept = boxes(pairs, self.cutmix_alpha, is_cutmix)
        return pairs.mixed(paste(pairs, blend(pairs, blended), inside), torch.where(is_cutmix, kept, blended))

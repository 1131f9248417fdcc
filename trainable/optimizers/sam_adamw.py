"""Sharpness-aware minimisation over AdamW, with AdamW's ranges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from trainable.component import Range
from trainable.optimizers._base import OPTIMIZERS
from trainable.optimizers.sam import SharpnessAwareConfig


@OPTIMIZERS.add
class SamAdamW(SharpnessAwareConfig):
    """SAM over AdamW, the usual pair for transformers and ConvNeXt. A step costs two of AdamW's.

    Reference: Chen et al. 2022, arXiv 2106.01548 (SAM for vision transformers).
    """

    name: Literal["sam_adamw"] = "sam_adamw"
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(3e-5, 1e-2, log=True)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-3, 0.3, log=True)] = 0.05
    base: Literal["adamw"] = "adamw"

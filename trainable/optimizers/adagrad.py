"""Adagrad."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from trainable.component import Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups


@OPTIMIZERS.add
class Adagrad(Optimizer):
    """Steps divided by the root of all squared gradients so far: the rate only ever falls."""

    name: Literal["adagrad"] = "adagrad"
    reference: ClassVar[str] = "Duchi et al. 2011, JMLR 12, figure 1 (diagonal)"
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(1e-3, 0.1, log=True)] = 1e-2
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-6, 1e-3, log=True)] = 1e-5
    initial_accumulator: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """Where the sum of squares begins; above 0 the first steps are smaller."""
    eps: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-10

    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return torch's Adagrad."""
        return torch.optim.Adagrad(
            groups, lr=self.lr, initial_accumulator_value=self.initial_accumulator, eps=self.eps
        )

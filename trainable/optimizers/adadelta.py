"""Adadelta."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from trainable.component import Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups


@OPTIMIZERS.add
class Adadelta(Optimizer):
    """Steps in the units of the weights: recent updates over recent gradients; the paper's lr is 1."""

    name: Literal["adadelta"] = "adadelta"
    reference: ClassVar[str] = "Zeiler 2012, arXiv 1212.5701, algorithm 1"
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(0.1, 3.0, log=True)] = 1.0
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-6, 1e-3, log=True)] = 1e-5
    rho: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Decay of the running averages of squares."""
    eps: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-6

    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return torch's Adadelta."""
        return torch.optim.Adadelta(groups, lr=self.lr, rho=self.rho, eps=self.eps)

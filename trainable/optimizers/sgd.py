"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from trainable.component import Choices, Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups
from trainable.optimizers.flat import FlatSGD


@OPTIMIZERS.add
class Sgd(Optimizer):
    """SGD with (Nesterov) momentum."""

    name: Literal["sgd"] = "sgd"
    reference: ClassVar[str] = "Sutskever et al. 2013, ICML, On the importance of initialization and momentum"
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(3e-3, 0.3, log=True)] = 0.1
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-5, 1e-2, log=True)] = 5e-4
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nesterov: Annotated[bool, Choices((True, False))] = True

    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return torch's SGD; Nesterov needs momentum, so without any it is off."""
        nesterov = self.nesterov and self.momentum > 0
        return FlatSGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov, fused=True)

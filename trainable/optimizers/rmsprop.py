"""RMSprop."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from trainable.component import Choices, Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups


@OPTIMIZERS.add
class RMSprop(Optimizer):
    """Steps divided by the root of a running average of squared gradients, with momentum."""

    name: Literal["rmsprop"] = "rmsprop"
    reference: ClassVar[str] = (
        "Tieleman and Hinton 2012, lecture 6.5; Graves 2013, arXiv 1308.0850, eq. 38 to 45"
    )
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(1e-5, 1e-2, log=True)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-6, 1e-3, log=True)] = 1e-5
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    alpha: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.99
    """Decay of the running average of squares."""
    eps: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-8
    centered: Annotated[bool, Choices((False, True))] = False
    """Divide by the standard deviation of the gradient instead of its root mean square."""

    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return torch's RMSprop."""
        return torch.optim.RMSprop(
            groups, lr=self.lr, alpha=self.alpha, eps=self.eps, momentum=self.momentum, centered=self.centered
        )

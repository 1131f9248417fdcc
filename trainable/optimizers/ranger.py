"""Ranger: rectified Adam with Lookahead."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from trainable.component import Choices, Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups


@OPTIMIZERS.add
class Ranger(Optimizer):
    """RAdam, whose weights are pulled back towards slow ones every `lookahead_steps` steps."""

    name: Literal["ranger"] = "ranger"
    reference: ClassVar[str] = (
        "Liu et al. 2020, arXiv 1908.03265, algorithm 2; Zhang et al. 2019, arXiv 1907.08610, algorithm 1; "
        "Yong et al. 2020, arXiv 2004.01461, eq. 1"
    )
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(1e-4, 3e-2, log=True)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-4, 0.1, log=True)] = 1e-2
    """Decoupled, as AdamW's."""
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    eps: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-5
    lookahead_steps: Annotated[int, Field(ge=1, le=1000)] = 6
    """Fast steps between two slow ones (k)."""
    lookahead_alpha: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """How far a slow step goes towards the fast weights."""
    centralize: Annotated[bool, Choices((True, False))] = True
    """Remove each filter's mean gradient (gradient centralization), as Ranger's author does."""

    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return pytorch-optimizer's Ranger."""
        # Imported here: the package takes half a second and few trials need it.
        from pytorch_optimizer import Ranger as RAdamWithLookahead

        # Until its variance is tractable (some five steps), RAdam takes momentum steps: "degenerated to
        # SGD". Without that flag this library's Ranger *climbs* during those steps (its step size is -lr).
        optimizer: torch.optim.Optimizer = RAdamWithLookahead(
            groups,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            k=self.lookahead_steps,
            alpha=self.lookahead_alpha,
            use_gc=self.centralize,
            degenerated_to_sgd=True,
        )
        return optimizer

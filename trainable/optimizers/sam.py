"""Sharpness-aware minimisation (SAM), adaptive (ASAM) or not, over a base optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainable.component import Choices, Range
from trainable.optimizers._base import OPTIMIZERS, Optimizer, ParamGroups, SharpnessAware
from trainable.optimizers.adam import Adam
from trainable.optimizers.adamw import AdamW
from trainable.optimizers.sgd import Sgd

Base = Literal["sgd", "adam", "adamw"]


class SharpnessAwareConfig(Optimizer):
    """What SAM has over any base."""

    reference: ClassVar[str] = "Foret et al. 2021, arXiv 2010.01412, eq. 2; Kwon et al. 2021, arXiv 2102.11600"
    rho: Annotated[float, Field(gt=0.0, le=10.0), Range(0.02, 1.0, log=True)] = 0.05
    """Radius of the neighbourhood."""
    adaptive: Annotated[bool, Choices((False, True))] = False
    """Measure the radius relative to each weight's magnitude (ASAM)."""
    base: Base = "sgd"
    """The optimizer that takes the step."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Momentum of SGD (Nesterov's), or the first beta of the others."""

    def build(self, groups: ParamGroups) -> SharpnessAware:
        """Return the two-pass optimizer; the training step takes both passes."""
        configs: dict[Base, Optimizer] = {
            "sgd": Sgd(lr=self.lr, weight_decay=self.weight_decay, momentum=self.momentum),
            "adam": Adam(lr=self.lr, weight_decay=self.weight_decay, beta1=self.momentum),
            "adamw": AdamW(lr=self.lr, weight_decay=self.weight_decay, beta1=self.momentum),
        }
        return SharpnessAware(configs[self.base].build(groups), self.rho, adaptive=self.adaptive)


@OPTIMIZERS.add
class Sam(SharpnessAwareConfig):
    """SAM: each step uses the gradient at the worst point nearby. A step costs two of its base's.

    `base` is pinned to SGD by default, because the range of `lr` is SGD's. A space that lets it be adam or
    adamw narrows `lr` as well (about 1e-4 to 1e-2); `sam_adamw` is this, ready made.

    Suggested: rho 0.05 to 0.2 (the paper's, for CIFAR and ImageNet); with `adaptive`, 0.5 to 2.
    """

    name: Literal["sam"] = "sam"
    lr: Annotated[float, Field(gt=0.0, le=100.0), Range(3e-3, 0.3, log=True)] = 0.1
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0), Range(1e-5, 1e-2, log=True)] = 5e-4


@contextmanager
def held_batch_norm(model: nn.Module) -> Iterator[None]:
    """Hold the running statistics of every batch norm in `model` while it normalises as in training.

    The second pass of SAM sees the same images with climbed weights; its statistics belong to no model
    that is ever evaluated. Batch norms in training mode still normalise by the batch's own statistics.
    """
    # Without tracking, a batch norm in training mode neither reads nor writes its buffers. A momentum
    # of 0 would not do: 0 times the NaN of a pass that overflowed is NaN.
    held = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for module in held:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in held:
            module.track_running_stats = True

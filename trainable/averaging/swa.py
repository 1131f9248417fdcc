"""Stochastic weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from trainable.averaging._base import AVERAGING, Averager, Averaging, CleanBatches
from trainable.component import Choices, Range


@AVERAGING.add
class Swa(Averaging):
    """An equal average of the weights at the ends of late epochs, under a constant learning rate.

    Until `start`, the plain model is evaluated. Each averaging epoch costs a forward pass over the
    training images, for batch-norm statistics of the averaged weights.
    """

    name: Literal["swa"] = "swa"
    reference: ClassVar[str] = "Izmailov et al. 2018, arXiv 1803.05407, algorithm 1"
    start: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.5, 0.9)] = 0.75
    """Share of the epochs before the first average: 0.4 of 50 epochs takes the 21st as the first."""
    every: Annotated[int, Field(ge=1, le=1000), Choices((1, 2))] = 1
    """Epochs between two averages."""
    lr_factor: Annotated[float, Field(ge=0.0, le=1.0), Range(0.01, 0.5, log=True)] = 0.1
    """The constant learning rate, as a share of the peak: SWALR's `swa_lr` divided by `optimizer.lr`."""
    anneal_epochs: Annotated[int, Field(ge=0, le=1000)] = 1
    """Epochs in which a cosine leads from the schedule's learning rate to the constant one."""

    def build(self, model: nn.Module, num_epochs: int, steps_per_epoch: int) -> Averager:
        """Return the average that follows `model`."""
        return SwaAverager(model, self, min(round(self.start * num_epochs), num_epochs - 1))


class SwaAverager(Averager):
    """torch's `AveragedModel`, fed after every `every`-th epoch from `start_epoch` (from 0) on."""

    def __init__(self, model: nn.Module, config: Swa, start_epoch: int) -> None:
        super().__init__(model)
        self.config, self.start_epoch = config, start_epoch
        self.average = AveragedModel(model).requires_grad_(False)

    def after_epoch(self, epoch: int, clean_batches: CleanBatches) -> None:
        """Take the weights into the average, where the epoch's turn has come, and renew its statistics."""
        since = epoch - self.start_epoch
        if since >= 0 and since % self.config.every == 0:
            self.average.update_parameters(self.model)
            renew_batch_norm(self.average.module, clean_batches())

    def evaluated(self) -> nn.Module:
        """Return the average once there is one, the model until then."""
        return self.average.module if self.average.n_averaged > 0 else self.model

    def adjust_lr(self, epoch: int, fraction: float, scheduled: float, peak: float) -> float:
        """Return the learning rate on its way from the schedule's to the constant one.

        As torch's `SWALR` with a cosine, but from where the schedule *is* rather than where it was at
        the start, and step by step: so it has no state.
        """
        since = epoch + fraction - self.start_epoch
        if since < 0.0:
            return scheduled
        progress = min(since / self.config.anneal_epochs, 1.0) if self.config.anneal_epochs else 1.0
        share = (1.0 - math.cos(math.pi * progress)) / 2.0
        return share * self.config.lr_factor * peak + (1.0 - share) * scheduled

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged model and how many went into it."""
        return self.average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.average.load_state_dict(state)


@torch.no_grad()
def renew_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace every batch norm's running statistics by the mean over `batches` of `(B, C, H, W)` images.

    As torch's `update_bn`, but dropout and stochastic depth stay off: they are off as well when the
    statistics are used, and the global random numbers are left alone.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    modes, momenta = [m.training for m in model.modules()], [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        # Not `norm.train()`: timm's batch norms have dropout and activation inside.
        norm.training = True
    for images in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode

"""Exponential moving average of the weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trainable.averaging._base import AVERAGING, Averager, Averaging
from trainable.component import Choices


@AVERAGING.add
class Ema(Averaging):
    """A moving average over steps, of weights and batch-norm statistics alike.

    Suggested: a decay that forgets within a tenth to a third of the training: 0.99 for hundreds of
    steps, 0.999 for thousands, 0.9999 for a hundred thousand.
    """

    name: Literal["ema"] = "ema"
    reference: ClassVar[str] = "Polyak and Juditsky 1992, SIAM; Tarvainen and Valpola 2017, arXiv 1703.01780"
    decay: Annotated[float, Field(ge=0.0, lt=1.0), Choices((0.9, 0.97, 0.99, 0.997, 0.999, 0.9997))] = 0.999
    """Share of the average that a step keeps."""
    warmup: bool = True
    """Keep at most (1 + t) / (10 + t) at step t, so that the random start is forgotten early."""

    def build(self, model: nn.Module, num_epochs: int, steps_per_epoch: int) -> Averager:
        """Return the average that follows `model`."""
        return EmaAverager(model, self.decay, self.warmup)


class EmaAverager(Averager):
    """A copy of the model that moves towards it after each step.

    Not timm's `ModelEmaV3` nor torch's `AveragedModel`: both collect the tensors of both models anew at
    each step, and a decay that warms up makes the latter read its counter back from the device.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool) -> None:
        super().__init__(model)
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.average = deepcopy(model).requires_grad_(False)
        self._mine, self._theirs = _tensors(self.average, floating=True), _tensors(model, floating=True)
        self._my_counters = _tensors(self.average, floating=False)
        self._their_counters = _tensors(model, floating=False)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move by one minus the decay of this step; what is no float (batch counts) is copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        torch._foreach_lerp_(self._mine, self._theirs, 1.0 - decay)
        if self._my_counters:
            torch._foreach_copy_(self._my_counters, self._their_counters)

    def evaluated(self) -> nn.Module:
        """Return the average."""
        return self.average

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged model's state and the number of updates."""
        return {"average": self.average.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.average.load_state_dict(state["average"])
        self.updates = state["updates"]


def _tensors(model: nn.Module, *, floating: bool) -> list[Tensor]:
    """Return the parameters and buffers that are floats, or those that are not."""
    return [t for t in [*model.parameters(), *model.buffers()] if t.is_floating_point() == floating]

"""No average: the model itself is evaluated."""

from __future__ import annotations

from typing import Literal

from torch import nn

from trainable.averaging._base import AVERAGING, Averager, Averaging


@AVERAGING.add
class NoAveraging(Averaging):
    """The weights of the last step, as they are."""

    name: Literal["none"] = "none"

    def build(self, model: nn.Module, num_epochs: int, steps_per_epoch: int) -> Averager:
        """Return the model, unaveraged."""
        return NoAverager(model)


class NoAverager(Averager):
    """The model itself."""

    def evaluated(self) -> nn.Module:
        """Return the model."""
        return self.model

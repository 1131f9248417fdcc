"""Optimizers. One file each."""

from trainable.optimizers._base import OPTIMIZERS, Optimizer, SharpnessAware, parameter_groups, set_lr
from trainable.optimizers.sam import held_batch_norm

OPTIMIZERS.discover(__name__, list(__path__))

__all__ = ["OPTIMIZERS", "Optimizer", "SharpnessAware", "held_batch_norm", "parameter_groups", "set_lr"]

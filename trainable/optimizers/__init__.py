"""Optimizers. One file each."""

from trainable.optimizers._base import OPTIMIZERS, Optimizer

OPTIMIZERS.discover(__name__, list(__path__))

__all__ = ["OPTIMIZERS", "Optimizer"]

"""Losses: per-sample values from logits and targets. One file each."""

from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction

LOSSES.discover(__name__, list(__path__))

__all__ = ["LOSSES", "Loss", "LossContext", "LossFunction"]

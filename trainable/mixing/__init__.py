"""Mixing of images and targets within a batch: Mixup, CutMix. One file each."""

from trainable.mixing._base import MIXING, Mixed, Mixing

MIXING.discover(__name__, list(__path__))

__all__ = ["MIXING", "Mixed", "Mixing"]

"""Averages of the weights along training. One file each."""

from trainable.averaging._base import AVERAGING, Averager, Averaging

AVERAGING.discover(__name__, list(__path__))

__all__ = ["AVERAGING", "Averager", "Averaging"]

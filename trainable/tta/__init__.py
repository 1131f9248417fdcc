"""Test-time augmentation: the views that a finished epoch is judged by. One file each."""

from trainable.tta._base import TTA, View, ViewSet, Zoom, mirrored

TTA.discover(__name__, list(__path__))

__all__ = ["TTA", "View", "ViewSet", "Zoom", "mirrored"]

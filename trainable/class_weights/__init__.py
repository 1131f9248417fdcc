"""Class weights from class counts, with mean 1. One file each."""

from trainable.class_weights._base import CLASS_WEIGHTS, ClassWeights

CLASS_WEIGHTS.discover(__name__, list(__path__))

__all__ = ["CLASS_WEIGHTS", "ClassWeights"]

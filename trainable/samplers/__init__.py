"""Batch samplers: which training images an epoch sees. One file each."""

from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler

SAMPLERS.discover(__name__, list(__path__))

__all__ = ["SAMPLERS", "BatchSampler", "IndexSampler"]

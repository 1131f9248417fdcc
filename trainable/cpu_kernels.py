"""The faster ways of computing that a model gets on a CPU: in a trial, in its bundle, in a timing."""

from __future__ import annotations

from torch import nn

from trainable.config import TrialConfig
from trainable.depthwise import quicken_depthwise
from trainable.folded_batch_norm import quicken_batch_norm
from trainable.laid_out_mean import lay_out_means
from trainable.pool_first import pool_first
from trainable.small_maps import quicken_small_maps

KERNELS = (
    "depthwise in fp32, with gradients of their own; small maps as products, in fp32 too, narrow ones densely; "
    "folded batch norm; laid out means"
)
"""In a few words: what was timed or computed with other ones is not taken up again."""


def quicken(model: nn.Module, config: TrialConfig, *, trains: bool = True) -> None:
    """Give the layers of `model` what computes the same in less time; compiled ones keep most of theirs.

    Args:
        model: On a CPU.
        config: The trial that it is of; whether it compiles is read.
        trains: Whether it is trained as well.
    """
    quicken_depthwise(model)
    if config.frozen.active or not config.training.compile:  # a frozen network is never compiled
        quicken_small_maps(model)
        pool_first(model)
        if trains:
            quicken_batch_norm(model)
            lay_out_means(model)


__all__ = ["KERNELS", "quicken"]

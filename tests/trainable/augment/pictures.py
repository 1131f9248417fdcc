"""Small images and draws for the tests of augmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainable.augment import AugmentOp, Draw
from trainable.augment.pipeline import Pipeline


def make_draw(
    batch: int, height: int, width: int, flips: str = "h", seed: int = 0, rarity: float = 0.0
) -> Draw:
    return Draw(
        batch_size=batch,
        height=height,
        width=width,
        flips=flips,
        generator=torch.Generator().manual_seed(seed),
        device=torch.device("cpu"),
        rarity=torch.full((batch,), rarity),
        epoch_fraction=0.5,
    )


def noise(batch: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Return whole grey values as float32, `(B, C, H, W)`."""
    values = np.random.default_rng(seed).integers(0, 256, (batch, channels, height, width))
    return torch.from_numpy(values.astype(np.float32))


def pipeline(ops: Sequence[AugmentOp], channels: int = 3) -> Pipeline:
    """Return a pipeline that normalises with mean 0.5 and std 0.25."""
    return Pipeline(ops, torch.full((1, channels, 1, 1), 0.5), torch.full((1, channels, 1, 1), 0.25))

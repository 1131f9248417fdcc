"""Mean and standard deviation of each channel: from the training images, or what trained weights expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.errors import UsageError
from trainable.data.dataset import ImageDataset

_MAX_IMAGES = 20_000
_CHUNK_IMAGES = 512


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted from values in [0, 1], and what they are divided by.

    Attributes:
        mean: One number a channel.
        std: One positive number a channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(value > 0.0 for value in self.std):
            raise UsageError(
                "normalisation needs a mean and a positive standard deviation for each channel, "
                f"got mean {self.mean} and std {self.std}"
            )


def channel_statistics(dataset: ImageDataset, positions: NDArray[np.int64]) -> Normalisation:
    """Return mean and standard deviation of each channel over the images at `positions`, in [0, 1].

    Exact up to 20,000 images; of more, every k-th is counted, for a trial should not wait on digits that
    change nothing. A standard deviation is at least one grey level, so that blank images stay finite.

    Args:
        dataset: The images.
        positions: Training images, `(N,)`, at least one.

    Raises:
        UsageError: If there is no position.
    """
    if len(positions) == 0:
        raise UsageError("channel statistics need at least one training image, got none")
    counted = np.sort(positions)[:: -(-len(positions) // _MAX_IMAGES)]
    total = torch.zeros(dataset.channels, dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, len(counted), _CHUNK_IMAGES):
        chunk = torch.from_numpy(dataset.images[counted[start : start + _CHUNK_IMAGES]])
        values = chunk.reshape(-1, dataset.channels).to(torch.float32)
        total += values.sum(dim=0, dtype=torch.float64)
        squares += values.square_().sum(dim=0, dtype=torch.float64)
    pixels = len(counted) * dataset.image_size[0] * dataset.image_size[1]
    mean = total / pixels
    std = (squares / pixels - mean.square()).clamp(min=0.0).sqrt().clamp(min=1.0)
    return Normalisation(tuple((mean / 255.0).tolist()), tuple((std / 255.0).tolist()))

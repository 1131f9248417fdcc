"""Difficulty-based sampling: images with a large loss are drawn more often."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from trainable.component import Range
from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler


@SAMPLERS.add
class Difficulty(BatchSampler):
    """Images ranked by their newest loss, with a probability that falls exponentially along the ranks.

    Ranks, not values: the scale of the loss does not matter. Images that were not yet drawn rank first, so
    that the first epoch is uniform. Suggested: a pressure of 3 to 30. It follows losses, not class counts, and
    does not count as a correction of imbalance. Cautions: mislabelled images stay hard and come up ever more
    often; under Mixup or CutMix an image's loss is that of the mixture, which blurs the ranking. Deviation:
    ranks are renewed after each epoch, from losses seen in training, with no extra pass over the data.
    """

    name: Literal["difficulty"] = "difficulty"
    reference: ClassVar[str] = "Loshchilov & Hutter 2016, arXiv 1511.06343, section 3"
    pressure: Annotated[float, Field(ge=1.0, le=1e6), Range(2.0, 100.0, log=True)] = 10.0
    """How many times as likely the hardest image is drawn as the easiest; 1 draws all alike."""

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return DifficultySampler(labels, num_classes, num_epochs, seed, self.pressure)


class DifficultySampler(IndexSampler):
    """Draws the image at rank r of N (0 is the hardest) in proportion to pressure^(−r/(N−1)).

    Args:
        labels: Class of each training image, `(N,)` int64.
        num_classes: C.
        num_epochs: Epochs of the trial.
        seed: With the epoch and the observed losses, the only source of randomness.
        pressure: Ratio of the largest to the smallest probability.
    """

    wants_losses = True

    def __init__(
        self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int, pressure: float
    ) -> None:
        super().__init__(labels, num_classes, num_epochs, seed)
        self.pressure = pressure
        self.newest = np.full(len(labels), np.inf, dtype=np.float32)

    def image_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return `(N,)` probabilities; equal losses share the mean of their ranks."""
        _, place, counts = np.unique(-self.newest, return_inverse=True, return_counts=True)
        ranks = (np.cumsum(counts) - 0.5 * (counts + 1))[place]
        weights = self.pressure ** (-ranks / max(1, len(ranks) - 1))
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return `(C,)` shares: the images' probabilities summed class by class."""
        shares = np.zeros(len(self.class_counts), dtype=np.float64)
        np.add.at(shares, self.labels, self.image_distribution(epoch))
        return shares

    def observe(self, indices: NDArray[np.int64], losses: Tensor) -> None:
        """Keep the newest loss of each image; of one that came up twice, the later."""
        self.newest[indices] = losses.detach().float().cpu().numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return the newest losses, `(N,)` float32, infinite where there is none."""
        return {"newest": torch.from_numpy(self.newest.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the newest losses back."""
        self.newest = state["newest"].cpu().numpy().copy()

"""Online class-balanced sampling: balanced at first, then more of the classes that are still hard."""

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
class OnlineClassBalanced(BatchSampler):
    """Classes in proportion to a power of their running mean loss, their images alike.

    Few images do not make a class hard: once a rare class is learned, its images are no longer repeated, and
    what balanced sampling would spend on them goes where the loss still is. Suggested: τ of 0.5 to 1.
    Caution: a rare class that is memorised has a small training loss whatever its validation F1, and is then
    drawn less; augment strongly. Deviations: the paper measures difficulty as 1 − accuracy on validation data
    and mostly re-weights the loss; here it is the training loss, so that the validation split stays unseen,
    and it steers the sampling.
    """

    name: Literal["online_class_balanced"] = "online_class_balanced"
    reference: ClassVar[str] = "Sinha, Ohashi & Nakamura 2020, arXiv 2010.01824 (class-wise difficulty)"
    corrects_imbalance: ClassVar[bool] = True
    tau: Annotated[float, Field(ge=0.0, le=10.0), Range(0.25, 2.0)] = 1.0
    """Exponent τ of the mean loss; 0 stays balanced."""
    smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5
    """Weight of the past in the running mean; 0 takes the newest epoch alone."""
    floor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """Share of the draws that stays balanced, so that no class is starved."""

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return OnlineClassBalancedSampler(labels, num_classes, num_epochs, seed, self)


class OnlineClassBalancedSampler(IndexSampler):
    """Draws from floor·balanced + (1−floor)·d^τ/Σd^τ, d being the running mean loss of each class.

    Args:
        labels: Class of each training image, `(N,)` int64.
        num_classes: C.
        num_epochs: Epochs of the trial.
        seed: With the epoch and the observed losses, the only source of randomness.
        config: τ, smoothing and floor.
    """

    wants_losses = True

    def __init__(
        self,
        labels: NDArray[np.int64],
        num_classes: int,
        num_epochs: int,
        seed: int,
        config: OnlineClassBalanced,
    ) -> None:
        super().__init__(labels, num_classes, num_epochs, seed)
        self.config = config
        self.difficulty = np.full(num_classes, np.nan)

    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return `(C,)` shares; a class that was not drawn yet is as hard as the hardest."""
        present = self.class_counts > 0
        balanced: NDArray[np.float64] = present / present.sum()
        known = present & np.isfinite(self.difficulty)
        hardest = self.difficulty[known].max(initial=0.0)
        if hardest == 0.0:
            return balanced
        relative = np.where(known, self.difficulty, hardest) / hardest
        powered = np.where(present, relative**self.config.tau, 0.0)
        floor = self.config.floor
        shares: NDArray[np.float64] = floor * balanced + (1.0 - floor) * powered / powered.sum()
        return shares

    def observe(self, indices: NDArray[np.int64], losses: Tensor) -> None:
        """Move each drawn class's running mean towards its mean loss in the epoch that ended."""
        classes = self.labels[indices]
        values = losses.detach().double().cpu().numpy()
        drawn = np.bincount(classes, minlength=len(self.difficulty))
        means = np.bincount(classes, weights=values, minlength=len(drawn)) / np.maximum(drawn, 1)
        known = np.isfinite(self.difficulty)
        past = self.config.smoothing
        moved = np.where(known, past * self.difficulty + (1.0 - past) * means, means)
        self.difficulty = np.where(drawn > 0, moved, self.difficulty)

    def state_dict(self) -> dict[str, Any]:
        """Return the running means, `(C,)` float64, NaN where there is none."""
        return {"difficulty": torch.from_numpy(self.difficulty.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the running means back."""
        self.difficulty = state["difficulty"].cpu().numpy().copy()

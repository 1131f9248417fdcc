"""Dynamic sampling: balanced in the first epoch, natural in the last."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trainable.component import Choices
from trainable.samplers._base import SAMPLERS, BatchSampler, IndexSampler


@SAMPLERS.add
class Dynamic(BatchSampler):
    """A mixture of balanced and natural sampling whose balanced share falls from 1 to 0 along training.

    Both ends are distributions over images before they are mixed, 1/(C·n) and 1/N, so that the share means
    what it says. Caution: rare classes learned early can be forgotten again by the natural end; compare with
    a fixed `strength` of 0.5. In a trial of one epoch it is balanced. Deviation: the paper goes the other
    way, from natural to balanced; a power of 2 gives the decay of Zhou et al. 2020, arXiv 1912.02413.
    """

    name: Literal["dynamic"] = "dynamic"
    reference: ClassVar[str] = (
        "Kang et al. 2020, arXiv 1910.09217, section 3.1, progressively-balanced, reversed"
    )
    corrects_imbalance: ClassVar[bool] = True
    power: Annotated[float, Field(gt=0.0, le=10.0), Choices((1.0, 2.0))] = 1.0
    """The balanced share in epoch t of T is 1−(t/(T−1))^power: 1 is linear, more stays balanced for longer."""

    def build(self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int) -> IndexSampler:
        """Return the sampler for training labels `(N,)`."""
        return DynamicSampler(labels, num_classes, num_epochs, seed, self.power)


class DynamicSampler(IndexSampler):
    """Draws from α·balanced + (1−α)·natural, α falling from 1 to 0.

    Args:
        labels: Class of each training image, `(N,)` int64.
        num_classes: C.
        num_epochs: Epochs of the trial.
        seed: With the epoch, the only source of randomness.
        power: Exponent of the decay.
    """

    def __init__(
        self, labels: NDArray[np.int64], num_classes: int, num_epochs: int, seed: int, power: float
    ) -> None:
        super().__init__(labels, num_classes, num_epochs, seed)
        self.power = power

    def class_distribution(self, epoch: int) -> NDArray[np.float64]:
        """Return `(C,)` shares: what the mixture over images sums to, class by class."""
        present = self.class_counts > 0
        balanced = present / present.sum()
        natural = self.class_counts / self.class_counts.sum()
        alpha = 1.0 - (epoch / max(1, self.num_epochs - 1)) ** self.power
        shares: NDArray[np.float64] = alpha * balanced + (1.0 - alpha) * natural
        return shares

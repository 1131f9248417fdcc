"""The learning-rate range test: train a few steps while the rate grows; where does the loss fall fastest?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from analysis.errors import TailtuneError, UsageError
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.optimizers import set_lr
from trainable.seeding import seeded
from trainable.state import TrialState

SMOOTHING = 0.9
DIVERGED = 4.0
"""The test ends where the smoothed loss exceeds its minimum this many times."""
EDGE = 5
"""Steps at either end that no suggestion is taken from: the first losses, and the turn at the end."""


@dataclass(frozen=True)
class LrCurve:
    """What a range test found.

    Attributes:
        lrs: Learning rate of each step, `(S,)`.
        losses: The batch's loss before the step, `(S,)`.
        smoothed: Exponential mean of the losses, bias corrected, `(S,)`.
    """

    lrs: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]

    @property
    def minimum(self) -> float:
        """The rate of the lowest smoothed loss: too high to train with."""
        return float(self.lrs[self._lowest])

    @property
    def tenth_of_minimum(self) -> float:
        """A tenth of that, a usual suggestion."""
        return self.minimum / 10.0

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest against log(lr), before its minimum: ours."""
        end = max(self._lowest + 1, 2)
        slope = np.gradient(self.smoothed[:end], np.log(self.lrs[:end]))
        start = EDGE if end > 2 * EDGE else 0
        return float(self.lrs[start + int(slope[start:].argmin())])

    @property
    def _lowest(self) -> int:
        return int(self.smoothed.argmin())


def find_lr(
    config: TrialConfig,
    dataset: ImageDataset,
    split: Split,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    device: torch.device | str | None = None,
) -> LrCurve:
    """Train `config` for up to `steps` steps with a rate that grows from `low` to `high` by a constant factor.

    Everything else is the trial's own: loss, batch sampler, augmentation, mixing, weight decay, precision.
    The schedule takes no part, and the trial stays in its first epoch, shown again in another order where it is
    shorter than the test: what changes along the epochs (a sampler's distribution, deferred weights, image
    size, the second stage of classifier retraining) would bend the curve where only the rate should.

    Args:
        config: The trial; its learning rate and epochs are not used.
        dataset: The images.
        split: Whose training images are used.
        low: First rate, above 0.
        high: Last rate, above `low`.
        steps: At least 10.
        device: None takes the GPU where there is one.

    Raises:
        UsageError: If `low`, `high` or `steps` break their laws.
        TailtuneError: If the loss was not finite before ten steps were made.

    Reference:
        Smith 2017, arXiv 1506.01186, section 3.3; the slope as suggestion: Howard and Gugger, fastai.
    """
    if not 0.0 < low < high or steps < 2 * EDGE:
        raise UsageError(
            f"a range test needs 0 < low < high and {2 * EDGE} steps or more, got {low:g}, {high:g} and {steps}"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    trial = TrialState(config, dataset, split, device)
    lrs = np.geomspace(low, high, steps)
    losses: list[float] = []
    positions = trial.begin_epoch(0)
    lap = 0
    while len(losses) < steps and not _over(losses):
        order = positions if lap == 0 else np.random.default_rng([config.seed, lap]).permutation(positions)
        with seeded(device, config.seed, "lr-find", lap):
            for batch in trial.batches.train(order, 0):
                set_lr(trial.optimizer, float(lrs[len(losses)]))
                losses.append(float(trial.stepper(batch.mixed).loss))
                if len(losses) == steps or _over(losses):
                    break
        lap += 1
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2 * EDGE:
        raise TailtuneError(
            f"the loss must stay finite for {2 * EDGE} steps, but was not after {len(finite)}",
            "begin with a lower rate (--low)",
        )
    return LrCurve(lrs[: len(finite)], np.array(finite), smoothed(finite))


def smoothed(losses: list[float]) -> NDArray[np.float64]:
    """Return the exponential mean of `losses` up to each step, bias corrected."""
    mean, means = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * loss
        means.append(mean / (1.0 - SMOOTHING**step))
    return np.array(means)


def _over(losses: list[float]) -> bool:
    """Return whether the loss has diverged."""
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    means = smoothed(losses)
    return bool(means[-1] > DIVERGED * means.min())

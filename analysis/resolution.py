"""How small a difference of macro-F1 a validation split can tell from none, by simulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import smoothed_replicates

SKILL = 0.7
"""Share of each class's images that a simulated network gets right."""
SHARED = 0.5
"""Share of images on which two simulated networks answer alike; elsewhere each draws for itself."""


def resolvable_difference(
    val_counts: NDArray[np.int64],
    train_counts: NDArray[np.int64],
    *,
    skill: float = SKILL,
    shared: float = SHARED,
    repeats: int = 5,
    replicates: int = 400,
    seed: int = 0,
) -> float:
    """Return the difference of macro-F1 from which on a paired 95 % interval leaves zero out.

    Two networks of one skill predict the split; a wrong answer falls on classes by their training images.
    The half-width of the paired interval of their difference (`analysis.intervals`) is the answer, the
    median over `repeats` such pairs. A true difference of this size is still missed half of the time.

    Args:
        val_counts: Validation images per class, `(C,)`, at least one in all.
        train_counts: Training images per class, `(C,)`.
        skill: In (0, 1).
        shared: In [0, 1).
        repeats: Simulated pairs.
        replicates: Draws of the bootstrap.
        seed: Equal seeds give equal answers.
    """
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(val_counts)), val_counts)
    share = np.maximum(train_counts, 1) / np.maximum(train_counts, 1).sum()
    widths = []
    for repeat in range(repeats):
        common, *own = (_predicted(targets, share, skill, rng) for _ in range(3))
        same = rng.random(len(targets)) < shared
        rows = np.stack([np.where(same, common, alone) for alone in own])
        draws = smoothed_replicates(targets, rows, len(val_counts), replicates=replicates, seed=seed + repeat)
        low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
        widths.append((high - low) / 2)
    return float(np.median(widths))


def _predicted(
    targets: NDArray[np.int64], share: NDArray[np.float64], skill: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    wrong = rng.choice(len(share), size=len(targets), p=share)
    return np.where(rng.random(len(targets)) < skill, targets, wrong)

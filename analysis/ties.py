"""Which trials cannot be told from the best one, on the images that there are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLEARLY_WORSE = 8.0
"""Standard errors behind the leader at which a trial is out unasked; no adjusted bound reaches so far."""


def tied_with_best(
    values: NDArray[np.float64], draws: NDArray[np.float64], confidence: float = 0.95
) -> NDArray[np.bool_]:
    """Return which of T trials, `(T,)`, may be the best: a set that holds the truly best one with `confidence`.

    Each trial t is tested as "none is better than t": the largest lead over t of any other, in standard
    errors, against the same largest lead in the paired draws, centred. Taking the largest over all others,
    in data and draws alike, is what adjusts for having looked at many trials and picked the leader.

    Args:
        values: Score of each trial.
        draws: `(T, R)` from `smoothed_replicates`; trials on the same images must be drawn together.
        confidence: Of the whole set, in (0, 1).

    Reference: Hsu 1984, Constrained simultaneous confidence intervals for multiple comparisons with the
    best, Annals of Statistics 12(3), in its studentised bootstrap form.
    """
    noise = draws - draws.mean(axis=1, keepdims=True)
    leader = int(values.argmax())
    behind = values[leader] - values
    tied: NDArray[np.bool_] = behind <= CLEARLY_WORSE * (noise - noise[leader]).std(axis=1)
    for trial in np.flatnonzero(tied):
        tied[trial] = _may_be_best(values, noise, int(trial), confidence)
    tied[leader] = True
    return tied


def _may_be_best(
    values: NDArray[np.float64], noise: NDArray[np.float64], trial: int, confidence: float
) -> bool:
    differences = noise - noise[trial]
    error = differences.std(axis=1)
    distinct = error > 0
    if not distinct.any():
        return True
    largest = ((values - values[trial])[distinct] / error[distinct]).max()
    by_chance = (differences[distinct] / error[distinct, None]).max(axis=0)
    return bool(largest <= np.quantile(by_chance, confidence))

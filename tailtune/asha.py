"""Asynchronous successive halving on epochs: which trial stops at which rung. Knows neither Ray nor Optuna."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np


class Asha:
    """Rungs at `grace · factor^k` epochs; a trial goes on past a rung while it is in the rung's top `1/factor`.

    Reference:
        Li et al. 2020, arXiv 1810.05934, algorithm 2, in its stopping form (a trial is never paused).
        Two deviations: nothing stops before `reduction_factor` other trials have been seen at the rung
        (the second trial of a search would otherwise die on a single record), and a trial may bring a
        longer grace of its own.

    Args:
        max_epochs: Epochs of a whole trial; no rung lies there, since a trial that arrives has ended.
        grace_epochs: Epochs before the first rung, at least 1.
        reduction_factor: Trials seen per trial kept, at least 2.
    """

    def __init__(self, max_epochs: int, grace_epochs: int, reduction_factor: int) -> None:
        if grace_epochs < 1 or reduction_factor < 2:
            raise ValueError(
                "ASHA wants grace_epochs >= 1 and reduction_factor >= 2, "
                f"got {grace_epochs} and {reduction_factor}"
            )
        self.reduction_factor = reduction_factor
        self.rungs = tuple(_rungs(max_epochs, grace_epochs, reduction_factor))
        self._records: dict[int, dict[int, float]] = defaultdict(dict)

    def record(self, number: int, epoch: int, value: float, grace_epochs: int = 1) -> None:
        """Remember what trial `number` reached at `epoch`, if a rung of its own lies there.

        Args:
            number: The trial.
            epoch: From 1.
            value: Higher is better; what is not finite is not remembered.
            grace_epochs: The trial's own grace. Before it is over, its values say nothing about it and
                are no yardstick for others.
        """
        if epoch in self.rungs and epoch >= grace_epochs and math.isfinite(value):
            self._records[epoch][number] = value

    def stops(self, number: int, epoch: int) -> bool:
        """Return whether trial `number` stops after `epoch`, whose value has been recorded.

        It does where at least `reduction_factor` other trials have a record at this rung and it is below
        their (1 - 1/reduction_factor) quantile (linear interpolation).
        """
        records = self._records.get(epoch, {})
        if number not in records:
            return False
        others = [value for other, value in records.items() if other != number]
        if len(others) < self.reduction_factor:
            return False
        return records[number] < float(np.quantile(others, 1.0 - 1.0 / self.reduction_factor))

    def records(self, epoch: int) -> dict[int, float]:
        """Return the values at the rung of `epoch` by trial number."""
        return dict(self._records.get(epoch, {}))


def _rungs(max_epochs: int, grace_epochs: int, reduction_factor: int) -> list[int]:
    rungs = []
    epoch = grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return rungs


def own_grace(grace_epochs: int, defer: float, epochs: int) -> int:
    """Return the grace of a trial whose class weights are switched on after a share `defer` of its `epochs`.

    The first epoch that its weights have a part in (counted from 1), or the search's grace if that is later.

    >>> own_grace(2, 0.0, 10), own_grace(2, 0.75, 10), own_grace(2, 0.8, 10)
    (2, 9, 9)
    """
    return grace_epochs if defer == 0.0 else max(grace_epochs, math.ceil(defer * epochs) + 1)

"""Parameters of a study's trials as numbers, read once for each trial that has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial

Observations = dict[str, NDArray[Any]]


class Columns:
    """A row a trial and a column a parameter, in Optuna's internal numbers; NaN where a trial has none.

    TPE looks at every trial's parameters once for each group of them, which at a thousand trials is half of its
    time.
    """

    def __init__(self) -> None:
        self._column: dict[str, int] = {}
        self._distributions: dict[str, BaseDistribution] = {}
        self._rows: NDArray[np.float64] = np.full((0, 0), np.nan)
        self._known = np.zeros(0, dtype=bool)

    def read(
        self, parts: Sequence[Sequence[FrozenTrial]], params_of: Callable[[FrozenTrial], Mapping[str, Any]]
    ) -> list[NDArray[np.float64]]:
        """Return for each part of a study's trials a row a trial, in their order.

        Args:
            parts: Those that have ended are read once for all.
            params_of: Returns what counts as a trial's parameters.
        """
        numbers = [np.array([trial.number for trial in part], dtype=np.int64) for part in parts]
        self._grow(max((int(found.max(initial=-1)) for found in numbers), default=-1) + 1, 0)
        for part, found in zip(parts, numbers, strict=True):
            for at in np.flatnonzero(~self._known[found]).tolist():
                self._take(part[at], params_of(part[at]))
        return [self._rows[found] for found in numbers]

    def _take(self, trial: FrozenTrial, params: Mapping[str, Any]) -> None:
        self._distributions |= trial.distributions
        for name in params:
            self._column.setdefault(name, len(self._column))
        self._grow(0, len(self._column))
        row = self._rows[trial.number]
        row[:] = np.nan
        for name, value in params.items():
            row[self._column[name]] = self._distributions[name].to_internal_repr(value)
        self._known[trial.number] = trial.state.is_finished()

    def _grow(self, rows: int, columns: int) -> None:
        """Make room for so many, by half as much again at a time."""
        wanted = np.maximum(self._rows.shape, (rows, columns))
        if (wanted > self._rows.shape).any():
            bigger = np.full(wanted + wanted // 2, np.nan)
            bigger[: self._rows.shape[0], : self._rows.shape[1]] = self._rows
            self._known = np.pad(self._known, (0, len(bigger) - len(self._known)))
            self._rows = bigger

    def observed(self, rows: NDArray[np.float64], space: Mapping[str, BaseDistribution]) -> Observations:
        """Return, of `rows`, the numbers of those trials that have every parameter of `space`."""
        if not space.keys() <= self._column.keys():
            return {name: np.zeros(0) for name in space}
        chosen = rows[:, [self._column[name] for name in space]]
        chosen = chosen[~np.isnan(chosen).any(axis=1)]
        return {
            name: column.astype(np.int64) if isinstance(one, CategoricalDistribution) else column.copy()
            for (name, one), column in zip(space.items(), chosen.T, strict=True)
        }


__all__ = ["Columns"]

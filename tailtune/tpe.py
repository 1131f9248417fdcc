"""TPE as a search uses it: away from diverged trials, and looking at each trial once for a suggestion."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Container
from typing import Any, cast

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers._tpe import sampler as optunas
from optuna.trial import FrozenTrial, TrialState

from tailtune.columns import Columns

_KNOWN = list(inspect.signature(optunas._split_trials).parameters) == ["study", "trials", "n_below"]
"""Whether this Optuna parts trials as `WaryTPE._sample` has it do; another one samples in its own way."""
_READS = _KNOWN and list(inspect.signature(optunas.TPESampler._get_internal_repr).parameters) == [
    "self",
    "trials",
    "search_space",
    "study",
]
"""Whether it reads trials' parameters as `WaryTPE` can do for it."""


class WaryTPE(optuna.samplers.TPESampler):
    """TPE that keeps away from diverged trials, and suggests what it would otherwise in half the time.

    TPE ranks trials without a value by how long they lasted, so that one that diverges late would look
    better than one that ASHA stopped early; one without an epoch it takes for the worst.

    For each group of parameters that occur together Optuna goes through all trials to find the groups, then to
    read them and to part the good from the rest, with the same outcome each time.

    Args:
        columns: Of the same study, from one suggestion to the next; None reads all trials anew.
        settings: As `optuna.samplers.TPESampler` takes them.
    """

    def __init__(self, *, columns: Columns | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._columns = columns or Columns()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are suggested together."""
        return super().infer_relative_search_space(_OneOfEach(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for `search_space`, group by group."""
        return super().sample_relative(_DivergedLast(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value for a parameter that no trial before had."""
        return super().sample_independent(_DivergedLast(study), trial, param_name, param_distribution)

    def _sample(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for `search_space`: Optuna's own lines, but for the parting."""
        if not _KNOWN:
            return super()._sample(study, trial, search_space)
        good, rest = cast(_DivergedLast, study).parted(trial.number)
        densities = [
            self._build_parzen_estimator(study, search_space, part, handle_below=below)
            for part, below in ((good, True), (rest, False))
        ]
        drawn = densities[0].sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(drawn, self._compute_acquisition_func(drawn, *densities))
        return {name: one.to_external_repr(best[name]) for name, one in search_space.items()}

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], *study: Any
    ) -> dict[str, Any]:
        """Return the parameters of those `trials` that have all of `search_space`, as numbers."""
        if not _READS:
            found: dict[str, Any] = super()._get_internal_repr(trials, search_space, *study)
            return found
        (view,) = study
        return self._columns.observed(view.rows(trials, self), search_space)


class _View(optuna.Study):
    """A study whose trials may look otherwise than they are stored."""

    def __init__(self, study: optuna.Study) -> None:
        vars(self).update(vars(study))


class _OneOfEach(_View):
    """A view of a study with one trial of each set of parameters: their groups depend on nothing else."""

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        found: dict[tuple[str, ...], FrozenTrial] = {}
        for trial in super()._get_trials(deepcopy, states, use_cache):
            found.setdefault(tuple(trial.distributions), trial)
        return list(found.values())


class _DivergedLast(_View):
    """A view of a study, as it is when first looked at, in which diverged trials have no epochs."""

    def __init__(self, study: optuna.Study) -> None:
        super().__init__(study)
        self._seen: dict[tuple[TrialState, ...] | None, list[FrozenTrial]] = {}
        self._parted: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None
        self._rows: list[NDArray[np.float64]] | None = None

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        wanted = None if states is None else tuple(state for state in TrialState if state in states)
        if wanted not in self._seen:
            trials = super()._get_trials(deepcopy, states, use_cache)
            self._seen[wanted] = [_without_epochs(t) if "diverged" in t.user_attrs else t for t in trials]
        return self._seen[wanted]

    def parted(self, number: int) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """Return the good trials and the rest, for a suggestion to trial `number`; running ones are rest."""
        if self._parted is None:
            states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
            trials = [
                trial for trial in self._get_trials(deepcopy=False, states=states) if trial.number != number
            ]
            ended = sum(trial.state != TrialState.RUNNING for trial in trials)
            self._parted = optunas._split_trials(self, trials, optunas.default_gamma(ended))
        return self._parted

    def rows(self, part: list[FrozenTrial], sampler: WaryTPE) -> NDArray[np.float64]:
        """Return the parameters of the good trials or of the rest, whichever `part` is, as rows of numbers."""
        assert self._parted is not None
        if self._rows is None:
            self._rows = sampler._columns.read(self._parted, lambda trial: sampler._get_params(trial, self))
        return self._rows[0 if part is self._parted[0] else 1]


def _without_epochs(trial: FrozenTrial) -> FrozenTrial:
    bare = copy.copy(trial)
    bare.intermediate_values = {}
    return bare


__all__ = ["WaryTPE"]

"""A trial in the making: drawn in memory, then put into the study whole, by a single write."""

from __future__ import annotations

import copy
from collections.abc import Container
from datetime import datetime
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from tailtune.trial_books import LONGEST_REASON

_DRAFT_ID = -1


class Draft:
    """A new trial of a study that has no other writer until the draft is kept or refused.

    Optuna writes each parameter and attribute of a trial by a transaction of its own, some twenty for one
    suggestion, and TPE that counts running trials in (`constant_liar`) reads the study anew for each group of
    parameters. A draft reads once and writes once; what is suggested is the same. A driver that is killed in
    between leaves nothing.

    Args:
        study: With the search algorithm that is to suggest.
        storage: The storage that `study` lives in.
        trials: All of the study, as they are now.

    Attributes:
        trial: What a space suggests from.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, trials: list[FrozenTrial]) -> None:
        self._storage, self._study_id = storage, study._study_id
        self._frozen = FrozenTrial(
            number=len(trials),
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=_DRAFT_ID,
        )
        study._thread_local.cached_all_trials = None  # as `study.ask` does
        view = copy.copy(study)
        view._storage = cast(BaseStorage, _WithDraft(storage, trials, self._frozen))
        self.trial = optuna.Trial(view, _DRAFT_ID)

    def keep(self) -> FrozenTrial:
        """Put the trial into the study as RUNNING; return it."""
        self._write()
        return self._frozen

    def refuse(self, number: int, why: str) -> str:
        """Put it into the study as FAIL, with `why` as the attribute `replaced`; return `why`."""
        assert number == self._frozen.number
        why = why[:LONGEST_REASON]
        self._frozen.user_attrs["replaced"] = why
        self._frozen.state, self._frozen.datetime_complete = TrialState.FAIL, datetime.now()
        self._write()
        return why

    def _write(self) -> None:
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=self._frozen)
        number = self._storage.get_trial_number_from_id(trial_id)
        assert number == self._frozen.number, "a study has one writer"
        self._frozen._trial_id = trial_id


class _WithDraft:
    """A storage beside which one further trial lives in memory; the others are as they were at the start."""

    def __init__(self, storage: BaseStorage, trials: list[FrozenTrial], draft: FrozenTrial) -> None:
        self._storage, self._trials, self._draft = storage, trials, draft

    def __getattr__(self, name: str) -> Any:
        """Return the storage's own."""
        return getattr(self._storage, name)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        found = [trial for trial in self._trials if states is None or trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._draft if trial_id == _DRAFT_ID else self._storage.get_trial(trial_id)

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).user_attrs

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        assert trial_id == _DRAFT_ID
        self._draft.params[param_name] = distribution.to_external_repr(param_value_internal)
        self._draft.distributions[param_name] = distribution

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        assert trial_id == _DRAFT_ID
        self._draft.user_attrs[key] = value

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        assert trial_id == _DRAFT_ID
        self._draft.system_attrs[key] = value


__all__ = ["Draft"]

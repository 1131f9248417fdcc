"""A trial in both books, Optuna's and its record, written in an order that survives a kill at any point."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from analysis.errors import TailtuneError
from analysis.records import RecordFolder, TrialInfo, TrialState

LONGEST_REASON = 400


class TrialBooks:
    """The record comes first, then Optuna's attributes, and the state last: what has a state has all of it.

    Args:
        study: Its storage has no other writer while this lives.
        storage: The storage that `study` lives in.
        trials: Folder of the records.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, trials: Path) -> None:
        self._study, self.storage, self._trials = study, storage, trials
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def trial_id(self, number: int) -> int:
        """Return the storage's id of trial `number`."""
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def frozen(self, number: int) -> FrozenTrial:
        """Return trial `number` as the storage has it."""
        return self.storage.get_trial(self.trial_id(number))

    def record(self, number: int) -> RecordFolder:
        """Return the record of trial `number`."""
        return RecordFolder(self._trials / str(number))

    def set_state(self, number: int, state: OptunaState) -> bool:
        """Set a state that is no end; return False where another had made it RUNNING before."""
        return self.storage.set_trial_state_values(self.trial_id(number), state)

    def begin(self, frozen: FrozenTrial, info: TrialInfo) -> None:
        """Write that the trial runs, as `info` says; what `frozen` has already is not written again."""
        number = frozen.number
        self.record(number).write_trial(info)
        if info.ray_id is not None and frozen.user_attrs.get("ray_id") != info.ray_id:
            self.storage.set_trial_user_attr(self.trial_id(number), "ray_id", info.ray_id)

    def put_back(self, number: int, info: TrialInfo) -> None:
        """Write that trial `number` waits to be handed out again."""
        self.set_state(number, OptunaState.WAITING)
        with contextlib.suppress(TailtuneError):  # a full disk must not keep the others from being put back
            self.record(number).write_trial(replace(info, state=TrialState.WAITING))

    def end(
        self,
        number: int,
        info: TrialInfo,
        state: TrialState,
        value: float | None,
        attributes: Mapping[str, Any],
    ) -> None:
        """Write the end of trial `number`.

        Args:
            number: The trial.
            info: What its record says so far.
            state: COMPLETE, PRUNED or FAIL.
            value: Of the record; Optuna has that of a COMPLETE trial only.
            attributes: Of the Optuna trial; `reason` is the record's as well.
        """
        reason = attributes.get("reason")
        self.record(number).write_trial(replace(info, state=state, value=value, reason=reason, ended=now()))
        self._tell(number, OptunaState[state.name], value if state is TrialState.COMPLETE else None, attributes)

    def refuse(self, frozen: FrozenTrial, reason: str) -> None:
        """End a trial that cannot be handed out again: FAIL."""
        info = self._known(frozen.number) or TrialInfo(
            number=frozen.number, state=TrialState.FAIL, params=frozen.params
        )
        self.end(frozen.number, info, TrialState.FAIL, None, {"reason": reason})

    def replace(self, number: int, why: str) -> str:
        """End a trial that counts for nothing; its record says so, where it has come to have one."""
        why = why[:LONGEST_REASON]
        if (info := self._known(number)) is not None:
            ended = replace(info, state=TrialState.FAIL, value=None, reason=why, ended=now(), replaced=True)
            self.record(number).write_trial(ended)
        self._tell(number, OptunaState.FAIL, None, {"replaced": why})
        return why

    def _tell(
        self, number: int, state: OptunaState, value: float | None, attributes: Mapping[str, Any]
    ) -> None:
        trial_id = self.trial_id(number)
        for key, attribute in attributes.items():
            if attribute is not None:
                self.storage.set_trial_user_attr(trial_id, key, attribute)
        self._study.tell(number, value, state)

    def _known(self, number: int) -> TrialInfo | None:
        """Return what trial.json says; None where it is missing or damaged: a new one takes its place."""
        try:
            return self.record(number).trial
        except TailtuneError:
            return None


def now() -> str:
    """Return the time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


__all__ = ["LONGEST_REASON", "TrialBooks", "now"]

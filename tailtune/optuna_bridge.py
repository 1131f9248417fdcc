"""The ledger of a search: hands out trials, takes their results, writes the Optuna study. Knows no Ray."""

from __future__ import annotations

import heapq
import math
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from analysis.errors import TailtuneError
from analysis.records import TrialInfo, TrialState
from tailtune.asha import Asha
from tailtune.exchange import Assignment, EpochResult, Observer, Space
from tailtune.retention import Retention
from tailtune.suggester import Suggester, Suggestion
from tailtune.trial_books import TrialBooks, now
from trainable.component import validated
from trainable.config import TrialConfig

DUPLICATES_BEFORE_EXHAUSTED = 100
LOSSES_BEFORE_FAIL = 3
"""A trial whose worker process dies this often without a new epoch in between has crashed."""


@dataclass
class _Live:
    assignment: Assignment
    trial_id: int
    info: TrialInfo
    grace_epochs: int
    reported: set[int]
    lost: int = 0
    lost_at: tuple[int, int] = (0, 0)
    """The furthest that it had reached when it was lost, and that it had gone on from."""
    begun_at: int = 0
    """The first epoch that this attempt told: its checkpoint's."""


class Ledger:
    """The only writer of a search's Optuna study, and of each trial's `config.yaml` and `trial.json`.

    Opening it takes back what an earlier driver left: RUNNING goes to WAITING and is handed out first, in
    order of number, with its own configuration; ASHA's rungs are filled from the stored values, and weights
    that it did not come to delete are deleted.

    Args:
        study: The study; its storage has no other writer while this lives.
        storage: The storage that `study` lives in.
        trials: Folder of the records.
        space: Suggests configurations.
        base: The run's part of every configuration.
        asked: Trials to end with.
        asha: Decides which trials stop early.
        seed: The study's.
        retention: Keeps or deletes the weights of trials that have ended.
        repeats: How often one configuration may be evaluated.
        observer: Is told what happens.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        *,
        trials: Path,
        space: Space,
        base: TrialConfig,
        asked: int,
        asha: Asha,
        grace_epochs: int,
        seed: int,
        retention: Retention,
        repeats: int = 1,
        observer: Observer | None = None,
    ) -> None:
        self._study, self._books = study, TrialBooks(study, storage, trials)
        self._suggester = Suggester(
            study,
            self._books,
            space=space,
            base=base,
            grace_epochs=grace_epochs,
            seed=seed,
            repeats=repeats,
        )
        self._asked, self._asha = asked, asha
        self._retention, self._observer = retention, observer or Observer()
        self.live: dict[int, _Live] = {}
        self._waiting: list[int] = []
        self._losses: dict[int, _Live] = {}
        self._ended = 0
        self.reports = 0
        """Epochs written by this ledger: a measure of progress."""
        for trial in study.get_trials(deepcopy=False):
            self._take_over(trial)

    # ---- what an earlier driver left -------------------------------------------------------------------

    def _take_over(self, trial: FrozenTrial) -> None:
        running = trial.state == OptunaState.RUNNING
        if "replaced" in trial.user_attrs:
            if running:  # killed between the attribute and the end
                self._study.tell(trial.number, state=OptunaState.FAIL)
            return
        if running and not ("config" in trial.user_attrs or "fixed_params" in trial.system_attrs):
            self._books.replace(trial.number, "its driver was killed before it had a configuration")
            return
        if running:
            self._books.set_state(trial.number, OptunaState.WAITING)
        if "fingerprint" in trial.user_attrs:
            self._suggester.count(trial.user_attrs["fingerprint"])
        for epoch, value in trial.intermediate_values.items():
            self._asha.record(trial.number, epoch, value, trial.user_attrs.get("grace_epochs", 1))
        if trial.state.is_finished():
            self._ended += 1
            self._retention.ended(trial.number, trial.value, complete=trial.state == OptunaState.COMPLETE)
        else:
            heapq.heappush(self._waiting, trial.number)

    @property
    def ended(self) -> int:
        """Trials that count: COMPLETE, PRUNED or FAIL, those replaced left out."""
        return self._ended

    @property
    def exhausted(self) -> bool:
        """Whether the space had nothing new to offer, in this driver or an earlier one."""
        return "exhausted" in self._study.user_attrs

    @property
    def finished(self) -> bool:
        """Whether every trial that was asked for has ended."""
        return not self.live and (self._ended >= self._asked or (self.exhausted and not self._waiting))

    # ---- handing out -----------------------------------------------------------------------------------

    def ask(self, ray_id: str | None = None) -> Assignment | None:
        """Return the next trial to run, or None while there is none to hand out.

        Raises:
            TailtuneError: If the space cannot suggest.
        """
        while self._waiting and self._ended + len(self.live) < self._asked:
            assignment = self._again(heapq.heappop(self._waiting), ray_id)
            if assignment is not None:
                return assignment
        duplicates = 0
        while self._ended + len(self.live) < self._asked and not self.exhausted:
            found = self._suggester.new(ray_id, duplicates)
            if isinstance(found, Suggestion):
                return self._hand_out(found.config, found.frozen, ray_id)
            duplicates += 1
            if duplicates >= DUPLICATES_BEFORE_EXHAUSTED:
                if not self._suggester.has_suggested:
                    raise TailtuneError(f"the space has suggested nothing that can be trained: {found}")
                self._study.set_user_attr(
                    "exhausted", f"{duplicates} suggestions in a row were refused: {found}"
                )
        return None

    def _again(self, number: int, ray_id: str | None) -> Assignment | None:
        """Hand out a trial that waits: one begun by an earlier attempt, or a starting point."""
        if not self._books.set_state(number, OptunaState.RUNNING):
            return None
        frozen = self._books.frozen(number)
        if "config" not in frozen.user_attrs:
            found = self._suggester.completed(number)
            return self._hand_out(found.config, found.frozen, ray_id) if isinstance(found, Suggestion) else None
        try:
            config = validated(TrialConfig, frozen.user_attrs["config"], f"trial {number}")
        except TailtuneError as error:
            self._refuse(frozen, f"its configuration is refused now: {error}")
            return None
        return self._hand_out(config, frozen, ray_id)

    def _refuse(self, frozen: FrozenTrial, reason: str) -> None:
        """End a trial that cannot be handed out again."""
        self._books.refuse(frozen, reason)
        self._has_ended(frozen.number, TrialState.FAIL, None, reason)

    def _hand_out(self, config: TrialConfig, frozen: FrozenTrial, ray_id: str | None) -> Assignment:
        number = frozen.number
        record, trial_id = self._books.record(number), self._books.trial_id(number)
        attempt = uuid.uuid4().hex[:12]
        record.claim(attempt)
        if record.config_yaml is None:
            record.write_config(config.to_yaml())
        info = TrialInfo(
            number=number,
            state=TrialState.RUNNING,
            ray_id=ray_id,
            attempt=attempt,
            started=now(),
            params=frozen.params,
            seed=config.seed,
        )
        self._books.begin(frozen, info)
        assignment = Assignment(number, config, record.path, attempt, self._retention.weights_from)
        former = self._losses.get(number)
        self.live[number] = _Live(
            assignment,
            trial_id,
            info,
            frozen.user_attrs.get("grace_epochs", 1),
            set(frozen.intermediate_values),
            0 if former is None else former.lost,
            (0, 0) if former is None else former.lost_at,
        )
        self._observer.trial_started(number, config, resumed=bool(frozen.intermediate_values))
        return assignment

    # ---- taking back -----------------------------------------------------------------------------------

    def result(self, number: int, result: EpochResult) -> bool:
        """Write what a trial tells; return whether it is to stop (and has its end in the study by then)."""
        live = self.live.get(number)
        if live is None:
            return True
        if live.info.host is None and result.host is not None:
            live.info = replace(live.info, host=result.host)
            self._books.storage.set_trial_user_attr(live.trial_id, "host", result.host)
        live.begun_at = live.begun_at or result.epoch
        for epoch, value in result.history:
            self._report(live, epoch, value)
        diverged = result.diverged
        if diverged is None and not math.isfinite(result.value):
            diverged = f"macro_f1 is {result.value} at epoch {result.epoch}"
        if diverged is not None:
            self._finish(live, TrialState.PRUNED, None, f"diverged: {diverged}", result.cost, diverged=diverged)
            return True
        self._report(live, result.epoch, result.value)
        if result.final and result.final_value is not None and math.isfinite(result.final_value):
            self._finish(live, TrialState.COMPLETE, result.final_value, None, result.cost)
        elif result.final or result.done:
            self._finish(
                live, TrialState.FAIL, None, f"no finite final value at epoch {result.epoch}", result.cost
            )
        elif result.epoch >= max(live.reported) and self._asha.stops(number, result.epoch):
            # A trial that goes on from an older checkpoint passes its rungs again, and is not judged again.
            reason = f"stopped by ASHA at epoch {result.epoch}"
            self._finish(live, TrialState.PRUNED, result.value, reason, result.cost)
        return number not in self.live

    def failed(self, number: int, reason: str) -> None:
        """End a trial that raised: FAIL, with the reason in one line."""
        live = self.live.get(number)
        if live is not None:
            self._finish(live, TrialState.FAIL, None, reason, {})

    def lost(self, number: int, reason: str) -> None:
        """Take back a trial whose worker process is gone: it goes on elsewhere, unless that is of no use.

        A lost node or a process that the kernel killed is no fault of the configuration. One that dies
        `LOSSES_BEFORE_FAIL` times without getting any further, nor its checkpoint, has crashed.
        """
        live = self.live.get(number)
        if live is None:
            return
        now_at = (max(live.reported, default=0), live.begun_at)
        further = any(new > old for new, old in zip(now_at, live.lost_at, strict=True))
        live.lost = 1 if further else live.lost + 1
        live.lost_at = (max(now_at[0], live.lost_at[0]), max(now_at[1], live.lost_at[1]))
        if live.lost >= LOSSES_BEFORE_FAIL:
            self._finish(live, TrialState.FAIL, None, reason, {})
            return
        self._losses[number] = live
        self._put_back(live)

    def release(self) -> None:
        """Take back every trial that is running, to be handed out again."""
        for live in list(self.live.values()):
            self._put_back(live)

    def close(self) -> None:
        """Leave nothing RUNNING, and nothing WAITING either where the search has finished."""
        self.release()
        if self.finished:
            while self._waiting:
                number = heapq.heappop(self._waiting)
                self._books.set_state(number, OptunaState.RUNNING)
                self._books.replace(number, "more starting points than trials")

    def _report(self, live: _Live, epoch: int, value: float) -> None:
        number = live.assignment.number
        if epoch in live.reported or not math.isfinite(value):
            return
        self._asha.record(number, epoch, value, live.grace_epochs)
        live.reported.add(epoch)
        self.reports += 1
        self._books.storage.set_trial_intermediate_value(live.trial_id, epoch, value)
        self._observer.epoch_ended(number, epoch, value)

    def _finish(
        self,
        live: _Live,
        state: TrialState,
        value: float | None,
        reason: str | None,
        cost: dict[str, Any],
        *,
        diverged: str | None = None,
    ) -> None:
        number = live.assignment.number
        attributes = {"cost": cost or None, "reason": reason, "diverged": diverged}
        self._books.end(number, live.info, state, value, attributes)
        del self.live[number]
        self._losses.pop(number, None)
        self._has_ended(number, state, value, reason)

    def _has_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Count a trial that the study has, keep or delete its weights, and pass it on."""
        self._ended += 1
        self._retention.ended(number, value, complete=state is TrialState.COMPLETE)
        self._observer.trial_ended(number, state, value, reason)

    def _put_back(self, live: _Live) -> None:
        number = live.assignment.number
        self._books.put_back(number, live.info)
        del self.live[number]
        heapq.heappush(self._waiting, number)


__all__ = ["Assignment", "EpochResult", "Ledger", "Observer", "Space"]

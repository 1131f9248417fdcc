"""A study: a folder with everything needed to repeat, resume and judge a search."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalChoiceType
from optuna.trial import FrozenTrial

from analysis.errors import TailtuneError, UsageError
from analysis.records import RecordFolder, TrialInfo, TrialRecord, TrialState
from tailtune.algorithm import enqueue
from tailtune.asha import Asha
from tailtune.brake import STOP_FILE
from tailtune.exchange import Observer, Space
from tailtune.lock import StudyLock, driver_of
from tailtune.optuna_bridge import Ledger
from tailtune.retention import Retention
from tailtune.storage import given_storage, mend_storage, open_storage, open_study, without_password
from tailtune.study_spec import FILE, StudySpec
from trainable.config import TrialConfig

StartingPoint = tuple[str, dict[str, CategoricalChoiceType]]
"""A name, and the parameters under which the space suggests its configuration."""


class Study:
    """The study in `folder`; made by `Study.create` or `Study.open`.

    Attributes:
        folder: `HOME/NAME`.
        spec: What study.yaml says.
    """

    def __init__(self, folder: Path, spec: StudySpec, storage: str | None) -> None:
        self.folder, self.spec = folder, spec
        self._url = storage

    @classmethod
    def create(
        cls,
        home: Path,
        spec: StudySpec,
        *,
        storage: str | None = None,
        start_from: Sequence[StartingPoint] = (),
    ) -> Study:
        """Return the study that `spec` describes, made if it is not there yet.

        Args:
            home: Folder of studies.
            spec: `id` and `created` are filled in.
            storage: As `open_storage` takes it.
            start_from: Starting points, tried before anything else.

        Raises:
            UsageError: If a different search has this name, or there are more starting points than trials.
            TailtuneError: If the folder or the storage cannot be written.
        """
        if len(start_from) > spec.budget.trials:
            raise UsageError(
                f"a search tries at least its starting points, got {len(start_from)} of them and "
                f"{spec.budget.trials} trials",
                f"give --trials {len(start_from)} or more",
            )
        stored = None if storage is None else without_password(storage)
        spec = spec.model_copy(update={"storage": stored})
        folder = home / spec.name
        _make_folder(folder)
        with StudyLock(folder):  # of two searches that begin at once, one makes the study and one finds it
            if (folder / FILE).exists():
                study = cls.open(home, spec.name, storage=storage)
                study._refuse_if_different(spec)
                study._begin(start_from)
                return study
            created = datetime.now(UTC).isoformat()
            study = cls(folder, spec.model_copy(update={"id": uuid.uuid4().hex, "created": created}), storage)
            study.spec.write(folder)
            try:
                study._begin(start_from)
            except TailtuneError:
                _remove_folder(folder)
                raise
            return study

    def _begin(self, points: Sequence[StartingPoint]) -> None:
        """Put starting points into the Optuna study, made here and nowhere else; the caller holds the lock."""
        self.mend()
        untried = not any((self.folder / "trials").iterdir())
        self._storage = open_storage(self.folder, self._url, create=untried)
        enqueue(self.optuna(create=untried), points)

    @classmethod
    def open(cls, home: Path, name: str, *, storage: str | None = None) -> Study:
        """Return the study called `name`.

        Args:
            home: Folder of studies.
            name: Of the study.
            storage: Its full storage, where that has a password and `$TAILTUNE_STORAGE` does not say it.

        Raises:
            TailtuneError: If there is no such study, or study.yaml cannot be read.
        """
        spec = StudySpec.read(home / name)
        return cls(home / name, spec, storage or given_storage(spec.storage))

    @property
    def name(self) -> str:
        """Of the study."""
        return self.spec.name

    @cached_property
    def _storage(self) -> optuna.storages.BaseStorage:
        return open_storage(self.folder, self._url)

    def optuna(self, *, create: bool = False) -> optuna.Study:
        """Return the Optuna study, which is the truth about every trial's state.

        Args:
            create: Make it if it is not there.

        Raises:
            TailtuneError: If its storage cannot be used, or has lost it.
        """
        url = self._url or f"sqlite:///{self.folder / 'study.db'}"
        return open_study(self._storage, self.name, self.spec.id, url, create=create)

    def mend(self) -> None:
        """Bring a storage that a killed driver left torn into order; the caller holds the lock."""
        mend_storage(self.folder, self._url)

    def resize(self, trials: int) -> None:
        """Ask for `trials` in all.

        Raises:
            UsageError: If the study asks for more already.
        """
        self.check_growth(trials)
        budget = self.spec.budget.model_copy(update={"trials": trials})
        self.spec = self.spec.model_copy(update={"budget": budget})
        self.spec.write(self.folder)

    def check_growth(self, trials: int) -> None:
        """Raise `resize`'s error where it would."""
        asked = self.spec.budget.trials
        if trials < asked:
            raise UsageError(
                f"a study only grows, and '{self.name}' asks for {asked} trials already, got {trials}",
                f"give --trials {asked} or more",
            )

    def locked(self) -> StudyLock:
        """Return the right to drive this study, for a `with`."""
        return StudyLock(self.folder)

    def ledger(self, space: Space, observer: Observer | None = None) -> Ledger:
        """Return the books of this study; the caller holds the lock."""
        budget = self.spec.budget
        self.mend()
        study = self.optuna()
        return Ledger(
            study,
            self._storage,
            trials=self.folder / "trials",
            space=space,
            base=self.spec.base.model_copy(update={"epochs": budget.epochs}),
            asked=budget.trials,
            asha=Asha(self.spec.trial_epochs, budget.grace_epochs, budget.reduction_factor),
            grace_epochs=budget.grace_epochs,
            seed=self.spec.seed,
            repeats=budget.repeats,
            retention=Retention(self.folder / "trials", self.spec.retention),
            observer=observer,
        )

    def request_stop(self) -> bool:
        """Have the driver stop after the results it has; return whether there is one."""
        if driver_of(self.folder) is None:
            return False
        (self.folder / STOP_FILE).touch()
        return True

    def records(self) -> list[TrialRecord]:
        """Return the record of every trial that counts, by number; states and values are Optuna's."""
        return [
            self._record(trial)
            for trial in self.optuna().get_trials(deepcopy=False)
            if "replaced" not in trial.user_attrs
        ]

    def config(self, number: int) -> TrialConfig:
        """Return the resolved configuration of trial `number`.

        Raises:
            UsageError: If there is no such trial, or it has no configuration yet.
        """
        trials = {t.number: t for t in self.optuna().get_trials(deepcopy=False) if "config" in t.user_attrs}
        if number not in trials:
            known = f"it has {min(trials)} to {max(trials)}" if trials else "it has none yet"
            raise UsageError(f"no trial {number} with a configuration in study '{self.name}'", known)
        return TrialConfig.model_validate(trials[number].user_attrs["config"])

    def status(self) -> dict[str, Any]:
        """Return where the study stands, as `status --json` prints it."""
        study = self.optuna()
        trials = [t for t in study.get_trials(deepcopy=False) if "replaced" not in t.user_attrs]
        counts = Counter(trial.state.name for trial in trials)
        complete = [t for t in trials if t.state.name == "COMPLETE" and t.value is not None]
        best = max(complete, key=lambda t: (t.value or 0.0, -t.number), default=None)
        ended = sum(counts[state] for state in ("COMPLETE", "PRUNED", "FAIL"))
        finished = ended >= self.spec.budget.trials or (
            "exhausted" in study.user_attrs and ended == len(trials)
        )
        running = driver_of(self.folder) is not None
        return {
            "study": self.name,
            "state": "running" if running else "finished" if finished else "stopped",
            "asked_trials": self.spec.budget.trials,
            "trials": {state.name: counts[state.name] for state in TrialState},
            "disk_bytes": _disk_bytes(self.folder),
            "best": None if best is None else self._best(best),
            "home": str(self.folder.parent),
        }

    def _best(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            "number": trial.number,
            "macro_f1": trial.value,
            "epochs": len(trial.intermediate_values),
            "record": str(self.folder / "trials" / str(trial.number)),
        }

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        record = RecordFolder(self.folder / "trials" / str(trial.number)).load()
        finished = trial.state.is_finished()
        state = TrialState[trial.state.name]
        info: TrialInfo = replace(
            record.info,
            number=trial.number,
            state=state,
            value=trial.value if finished else None,
            reason=trial.user_attrs.get("reason") if finished else None,
            params=trial.params,
        )
        return replace(record, info=info)

    def _refuse_if_different(self, spec: StudySpec) -> None:
        if spec.budget.trials < self.spec.budget.trials:  # it was extended since: the same search, further on
            budget = spec.budget.model_copy(update={"trials": self.spec.budget.trials})
            spec = spec.model_copy(update={"budget": budget})
        differences = self.spec.differences(spec)
        if not differences:
            return
        remedy = "choose another --study name"
        if all(key.startswith("budget.trials") for key in differences):
            remedy = f"extend it with `tailtune resume {self.name} --trials {spec.budget.trials}`"
        listed = "; ".join(differences[:6])
        raise UsageError(f"study '{self.name}' exists with a different search ({listed})", remedy)


def _make_folder(folder: Path) -> None:
    try:
        (folder / "trials").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TailtuneError(
            f"cannot make the study's folder {folder}: {error.strerror}",
            "choose a --home that can be written",
        ) from None


def _remove_folder(folder: Path) -> None:
    """Take back what `Study.create` made and could not go on with (its storage, say, is out of reach)."""
    for name in (FILE, "heartbeat", "lock"):
        (folder / name).unlink(missing_ok=True)
    for empty in (folder / "trials", folder):
        with contextlib.suppress(OSError):
            empty.rmdir()


def _disk_bytes(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue  # gone between listing and looking: the study is running
    return total


__all__ = ["StartingPoint", "Study"]

"""TPE looks at a study once: what it suggests is what Optuna's own way suggests."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tailtune import tpe
from tailtune.columns import Columns
from tailtune.tpe import WaryTPE, _without_epochs

SETTINGS: dict[str, Any] = {"multivariate": True, "group": True, "constant_liar": True, "n_startup_trials": 10}


class Plain(optuna.samplers.TPESampler):
    """Optuna's own, told of the study as `WaryTPE` is, and of nothing else."""

    def _sample(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        class View(optuna.Study):
            def __init__(self) -> None:
                vars(self).update(vars(study))

            def _get_trials(self, *arguments: Any, **named: Any) -> list[FrozenTrial]:
                trials = study._get_trials(*arguments, **named)
                return [_without_epochs(t) if "diverged" in t.user_attrs else t for t in trials]

        return super()._sample(View(), trial, search_space)


def suggest(trial: optuna.Trial) -> float:
    """Draw parameters that depend on each other; return what they are worth."""
    lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    if kind == "a":
        trial.suggest_int("depth", 1, 9)
    elif kind == "b":
        trial.suggest_float("rate", 0.0, 1.0)
        trial.suggest_categorical("inner", [None, 0.5, "x"])
        trial.suggest_float("further", 0.0, 1.0) if trial.params["inner"] == "x" else None
    return -abs(np.log10(lr) + 2) - (kind == "c")


def study_of(trials: int) -> optuna.Study:
    """Return a study with ended, stopped, diverged, failed and running trials."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    for number in range(trials):
        trial = study.ask()
        value = suggest(trial)
        for step in range(1, 2 + number % 4):
            trial.report(value - 1 / step, step)
        if number % 7 == 3:
            trial.set_user_attr("diverged", "loss is nan")
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 4 == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif number % 11 == 5:
            study.tell(trial, state=TrialState.FAIL)
        elif number % 13 != 6:
            study.tell(trial, value)
    return study


@pytest.mark.parametrize(
    ("trials", "known", "reads"),
    [(12, True, True), (60, True, True), (300, True, True), (60, True, False), (60, False, False)],
)
def test_it_suggests_what_optunas_own_way_suggests(
    trials: int, known: bool, reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another Optuna too, of which `WaryTPE` does less itself."""
    monkeypatch.setattr(tpe, "_KNOWN", known and tpe._KNOWN)
    monkeypatch.setattr(tpe, "_READS", reads and tpe._READS)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    studies = {kind: study_of(trials) for kind in (WaryTPE, Plain)}
    drawn: dict[type, list[dict[str, Any]]] = {WaryTPE: [], Plain: []}
    columns = Columns()  # as a search keeps them
    for seed in range(25):
        for kind, study in studies.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                kept = {"columns": columns} if kind is WaryTPE else {}
                study.sampler = kind(seed=seed, **SETTINGS, **kept)
            trial = study.ask()
            value = suggest(trial)
            drawn[kind].append(trial.params)
            if seed % 3:
                study.tell(trial, value)
    assert drawn[WaryTPE] == drawn[Plain]
    assert len({str(params) for params in drawn[WaryTPE]}) > 20

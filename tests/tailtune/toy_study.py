"""A real study with a space of one or two dimensions, for the toy trainable."""

from __future__ import annotations

from pathlib import Path

import optuna

from tailtune.study import Study
from tailtune.study_spec import BudgetSpec, DataSpec, ResourceSpec, SpaceSpec, StudySpec
from trainable.config import TrialConfig


class ToySpace:
    """`words` by trial number make a trial misbehave; `choices` make the space finite."""

    def __init__(
        self, words: dict[int, str] | None = None, always: str = "", choices: list[float] | None = None
    ) -> None:
        self.words, self.always, self.choices = words or {}, always, choices

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        if self.choices is None:
            lr = trial.suggest_float("optimizer.lr", 1e-4, 1.0, log=True)
        else:
            lr = float(trial.suggest_categorical("optimizer.lr", self.choices))
        optimizer = base.optimizer.model_copy(update={"lr": lr})
        name = f"{self.always} {self.words.get(trial.number, '')}".strip()
        return base.model_copy(update={"optimizer": optimizer, "name": name})


def spec(
    trials: int = 6, epochs: int = 4, *, concurrent: int = 2, grace: int = 1, factor: int = 2, **changed: object
) -> StudySpec:
    return StudySpec(
        name="toy",
        data=DataSpec(source="digits-lt", fingerprint="f" * 16),
        space=SpaceSpec(name="toy", fingerprint="0" * 16),
        budget=BudgetSpec(trials=trials, epochs=epochs, grace_epochs=grace, reduction_factor=factor),
        resources=ResourceSpec(concurrent=concurrent),
    ).model_copy(update=changed)


def make(home: Path, *arguments: object, **changed: object) -> Study:
    return Study.create(home, spec(*arguments, **changed))

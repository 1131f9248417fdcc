"""Studies for measurements: a named space, data that the measure brings, nothing stopped early."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import optuna
import torch

from search_spaces.space import load_space
from tailtune.study import Study
from tailtune.study_spec import BudgetSpec, DataSpec, ResourceSpec, RetentionSpec, SpaceSpec, StudySpec
from trainable.config import TrialConfig

A_GPU = float(torch.cuda.is_available())
"""What a trial that has the machine to itself asks for."""


def study_in(
    home: Path,
    space: str,
    *,
    trials: int,
    epochs: int,
    concurrent: int = 1,
    base: TrialConfig | None = None,
    gpus: float = 0.0,
    keep_best: int = 5,
) -> Study:
    """Return a new study; every trial of it lasts as long as it asks for, and has `gpus` to itself.

    The `keep_best` best trials keep their weights.
    """
    spec = StudySpec(
        name=f"measure-{uuid.uuid4().hex[:8]}",
        data=DataSpec(source="measure", fingerprint="0" * 16),
        space=SpaceSpec(name=space, fingerprint="0" * 16),
        budget=BudgetSpec(trials=trials, epochs=epochs, grace_epochs=epochs),
        resources=ResourceSpec(concurrent=concurrent, gpus_per_trial=gpus),
        retention=RetentionSpec(keep_best=keep_best),
        base=base or TrialConfig(),
    )
    return Study.create(home, spec)


class Pinned:
    """A space with one configuration, told apart by a learning rate that hardly differs.

    Args:
        config: The configuration.
    """

    def __init__(self, config: TrialConfig) -> None:
        self.config = config

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        """Return it."""
        lr = trial.suggest_float("optimizer.lr", 0.01, 0.011)
        optimizer = self.config.optimizer.model_copy(update={"lr": lr})
        return self.config.model_copy(update={"optimizer": optimizer, "epochs": base.epochs, "data": base.data})


class Stock:
    """A named space as Ray's `OptunaSearch` takes it: called with a trial, returns what the trial is told.

    Args:
        space: Name of the space.
        base: What the run decides.
        records: Where trials get their folders.
    """

    def __init__(self, space: str, base: TrialConfig, records: Path) -> None:
        self._space, self._base, self._records = load_space(space), base, records

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """Suggest."""
        config = self._space.suggest(trial, self._base)
        attempt = uuid.uuid4().hex[:12]
        told = {"config": config.model_dump_json(), "record": str(self._records / attempt)}
        return {"number": trial.number, "attempt": attempt, **told}

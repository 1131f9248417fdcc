"""What passes between a search's ledger and its two sides: the space that suggests, and Ray that trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna

from analysis.records import TrialState
from trainable.config import TrialConfig


class Space(Protocol):
    """What may be tried (`search_spaces.space.SearchSpace` is one)."""

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        """Return a configuration drawn from `trial`; `base` has what the run decides (epochs, geometry)."""
        ...


class Observer:
    """Is told what happens in a search; every method may be left out."""

    def trial_started(self, number: int, config: TrialConfig, *, resumed: bool) -> None:
        """A trial was handed out, for the first time or again."""

    def epoch_ended(self, number: int, epoch: int, value: float) -> None:
        """A trial reported an epoch that was not known before."""

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """A trial is COMPLETE, PRUNED or FAIL, and the study has it."""


@dataclass(frozen=True)
class Assignment:
    """A trial handed out.

    Attributes:
        number: Optuna's number.
        config: What to train.
        record: The trial's folder.
        attempt: Id of this attempt; a later one fences off what this one still writes.
        weights_from: Macro-F1 in [0, 1] below which the trial's weights will not stay; 0 where any may.
    """

    number: int
    config: TrialConfig
    record: Path
    attempt: str
    weights_from: float


@dataclass(frozen=True)
class EpochResult:
    """What a trial tells of an epoch.

    Attributes:
        epoch: From 1.
        value: macro-F1 of the epoch itself.
        history: Every epoch known so far with its value; only in the first result after a start.
        done: No result will follow.
        final: The trial ended by itself: all epochs, early stopping, or diverged.
        final_value: Of the chosen epoch, where `final`.
        diverged: Why, or None.
        cost: As in the record's `Cost`.
        host: Where it runs.
    """

    epoch: int
    value: float
    history: Sequence[tuple[int, float]] = ()
    done: bool = False
    final: bool = False
    final_value: float | None = None
    diverged: str | None = None
    cost: dict[str, Any] = field(default_factory=dict)
    host: str | None = None

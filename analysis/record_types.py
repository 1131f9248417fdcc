"""What a record's files hold, typed; `analysis/records.py` reads and writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AllowInfNan, Field

from analysis.metrics import Metrics, confusion_matrix

FORMAT = 1
"""Of trial.json and summary.json; a reader refuses a greater one."""

Scalar = bool | int | float | str | None
Epoch = Annotated[int, Field(ge=1)]
Finite = Annotated[float, AllowInfNan(False)]


class TrialState(StrEnum):
    """As Optuna names them."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    RUNNING = "RUNNING"
    WAITING = "WAITING"

    @property
    def ended(self) -> bool:
        """True where nothing will change any more."""
        return self in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a trial took; None where it was not measured."""

    wall_seconds: Finite | None = None
    images_per_second: Finite | None = None
    peak_device_bytes: int | None = None
    peak_host_bytes: int | None = None
    parameters: int | None = None
    flops: int | None = None
    """Multiply-adds counted as two, of one image's forward pass."""
    seconds_to_best: Finite | None = None
    forward_passes: int | None = None
    """Of the network, for one image's stored predictions and in an exported model: 1, and 1 for each view."""
    predict_images_per_second: Finite | None = None
    """Validation images a second in that prediction, with all its passes."""


@dataclass(frozen=True, kw_only=True)
class TrialInfo:
    """trial.json: what the driver knows; the last version is written before Optuna is told."""

    number: Annotated[int, Field(ge=0)]
    state: TrialState
    value: Finite | None = None
    reason: str | None = None
    """Why it failed, diverged or was replaced; one line."""
    replaced: bool = False
    """An orphan or duplicate that another trial stands in for: neither ranked nor counted."""
    ray_id: str | None = None
    host: str | None = None
    attempt: str | None = None
    started: str | None = None
    """ISO 8601, with time zone."""
    ended: str | None = None
    params: Mapping[str, Scalar] = field(default_factory=dict)
    seed: int | None = None
    fold: int | None = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class Summary:
    """summary.json: what the trial itself knows after its newest epoch."""

    epoch: Annotated[int, Field(ge=0)]
    """Epochs trained."""
    best_epoch: Epoch | None = None
    """The chosen epoch: the predictions are this one's, and so are the weights once the trial has finished."""
    macro_f1: Finite | None = None
    """Of the chosen epoch, from the stored predictions."""
    finished: bool = False
    """No epoch will follow: all are trained, or it stopped early, or diverged."""
    diverged: str | None = None
    auto: Mapping[str, Scalar] = field(default_factory=dict)
    """What `auto` settings chose."""
    cost: Cost = Cost()
    train_class_counts: tuple[int, ...] | None = None
    format: int = FORMAT


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """A line of epochs.jsonl: one epoch, finite numbers only (None where a group is empty)."""

    epoch: Epoch
    train_loss: Finite
    val_loss: Finite
    lr: Finite
    seconds: Finite
    macro_f1: Finite
    accuracy: Finite
    weighted_f1: Finite
    balanced_accuracy: Finite
    f1_std: Finite
    head_f1: Finite | None = None
    medium_f1: Finite | None = None
    tail_f1: Finite | None = None
    smallest_class_f1: Finite | None = None
    per_class_precision: tuple[Finite | None, ...] = ()
    per_class_recall: tuple[Finite | None, ...] = ()
    per_class_f1: tuple[Finite | None, ...] = ()
    fold: Epoch = 1
    """From 1; the scores are on this fold's validation images. `epoch` counts on over the folds."""

    @classmethod
    def of(
        cls, epoch: int, metrics: Metrics, *, train_loss: float, val_loss: float, lr: float, seconds: float
    ) -> EpochRow:
        """Return the row of `epoch` (from 1) with `metrics`."""
        scores = {f.name: getattr(metrics, f.name) for f in dataclasses.fields(cls) if hasattr(metrics, f.name)}
        return cls(epoch=epoch, train_loss=train_loss, val_loss=val_loss, lr=lr, seconds=seconds, **scores)


@dataclass(frozen=True)
class Predictions:
    """predictions.npz: what the chosen epoch's weights say of each validation image.

    Attributes:
        logits: `(N, C)` float16; every stored number is computed from these.
        targets: `(N,)` int64.
        indices: `(N,)` int64, positions in the dataset.
        epoch: The chosen epoch, from 1.
    """

    logits: NDArray[np.float16]
    targets: NDArray[np.int64]
    indices: NDArray[np.int64]
    epoch: int

    @property
    def classes(self) -> NDArray[np.int64]:
        """The predicted class of each image, `(N,)`: the largest logit, the first where several are."""
        largest: NDArray[np.int64] = self.logits.argmax(axis=1)
        return largest

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.logits.shape[1])

    def confusion(self) -> NDArray[np.int32]:
        """Return the confusion matrix `(C, C)`, rows are targets."""
        return confusion_matrix(self.targets, self.classes, self.num_classes)

"""What a trial has reached: its epochs, the chosen one, whether it has ended; and all of it on disk."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from analysis.metrics import Metrics
from analysis.records import Cost, EpochRow, Predictions, RecordFolder, Summary
from trainable.bundle import PREPROCESSING
from trainable.checkpoint import save_checkpoint, save_weights
from trainable.config import TrialConfig
from trainable.evaluate import mean_cross_entropy
from trainable.meter import LossMeter, Meter, peak_host_bytes
from trainable.state import TrialState


@dataclass(frozen=True)
class EpochReport:
    """What is told after an epoch.

    Attributes:
        epoch: Epochs trained, from 1.
        macro_f1: The epoch's own, on validation; NaN where it diverged.
        curve: (epoch, macro-F1) of every epoch so far, this one included.
        best_epoch: The chosen epoch so far, or None.
        best_macro_f1: Its macro-F1, from the stored predictions.
        final: Whether no epoch will follow.
        diverged: Why, where loss or logits were not finite; else None.
        row: Every score of the epoch; None where it diverged.
        cost: What the trial took so far.
    """

    epoch: int
    macro_f1: float
    curve: tuple[tuple[int, float], ...]
    best_epoch: int | None
    best_macro_f1: float | None
    final: bool
    diverged: str | None
    row: EpochRow | None
    cost: dict[str, float | int | None]


class History:
    """The epochs of one trial, and the keeper of its record.

    Args:
        config: The trial.
        state: Its changing parts.
        record: Where to keep everything, or None to keep it in memory only.
        attempt: Id of this attempt at the trial.
        saved: The checkpoint that `state` was restored from, or None.
    """

    def __init__(
        self,
        config: TrialConfig,
        state: TrialState,
        record: RecordFolder | None,
        attempt: str | None,
        saved: Mapping[str, Any] | None,
    ) -> None:
        self.config, self.state, self.record, self.attempt = config, state, record, attempt
        self.rows: list[EpochRow] = []
        self.best_epoch: int | None = None
        self.diverged: str | None = None
        self.cost = Cost(parameters=state.parameters, flops=state.flops)
        self.meter = Meter(state.device)
        if record is not None:
            record.write_bytes(PREPROCESSING, state.preprocessing.to_json(), attempt)
        if record is not None and saved is not None:
            self._resume(record, saved)

    def _resume(self, record: RecordFolder, saved: Mapping[str, Any]) -> None:
        self.rows = [EpochRow(**row) for row in saved["rows"]]
        self.best_epoch = saved["best_epoch"]
        self.cost = Cost(**saved["cost"])
        self.meter = Meter(self.state.device, **saved["meter"])
        former = record.summary
        self.diverged = former.diverged if former is not None and former.epoch > len(self.rows) else None
        self._write_summary()
        record.write_epochs(self.rows, self.attempt)

    @property
    def num_epochs(self) -> int:
        """Epochs trained, a diverged one not counted."""
        return len(self.rows)

    @property
    def best(self) -> EpochRow | None:
        """The chosen epoch's row."""
        return None if self.best_epoch is None else self.rows[self.best_epoch - 1]

    @property
    def ended(self) -> bool:
        """Whether no epoch will follow."""
        return self.diverged is not None or self.num_epochs >= self.config.epochs or self._stopped_early()

    def _stopped_early(self) -> bool:
        rule = self.config.training.early_stopping
        if rule is None:
            return False
        best, since = -math.inf, 0
        for row in self.rows:
            best, since = (row.macro_f1, 0) if row.macro_f1 > best + rule.min_delta else (best, since + 1)
        return since >= rule.patience

    def add(
        self,
        metrics: Metrics,
        confusion: NDArray[np.int32],
        predictions: Predictions,
        losses: LossMeter,
        model: nn.Module,
        *,
        lr: float,
    ) -> EpochReport:
        """Take the epoch that has just been evaluated into the books and onto the disk; report it.

        Args:
            metrics: Its scores.
            confusion: Its confusion matrix `(C, C)`.
            predictions: What was predicted on validation, logits float16.
            losses: Its training losses.
            model: The evaluated model.
            lr: Learning rate of its last step.
        """
        epoch = self.num_epochs + 1
        self.diverged = divergence(losses, predictions.logits)
        if self.diverged is not None:
            self._write_summary(epoch)
            return self.report()
        val_loss = mean_cross_entropy(predictions.logits, predictions.targets)
        seconds = self.meter.lap()
        row = EpochRow.of(epoch, metrics, train_loss=losses.mean(), val_loss=val_loss, lr=lr, seconds=seconds)
        chosen = self.config.select == "last" or self.best is None or row.macro_f1 > self.best.macro_f1
        self.rows.append(row)
        if chosen:
            self.best_epoch = epoch
        self._measure(chosen)
        if self.record is not None:
            self._keep(self.record, confusion, predictions if chosen else None, model)
        return self.report()

    def _measure(self, chosen: bool) -> None:
        peak = max(peak_host_bytes(), self.cost.peak_host_bytes or 0)
        seconds = self.meter.wall_seconds
        self.cost = dataclasses.replace(
            self.cost,
            wall_seconds=seconds,
            images_per_second=self.meter.images_per_second,
            peak_device_bytes=self.meter.peak_device_bytes(),
            peak_host_bytes=peak,
            seconds_to_best=seconds if chosen else self.cost.seconds_to_best,
        )

    def _keep(
        self,
        record: RecordFolder,
        confusion: NDArray[np.int32],
        predictions: Predictions | None,
        model: nn.Module,
    ) -> None:
        """Write the epoch. The checkpoint comes after what it speaks of: a kill between repeats the epoch."""
        if predictions is not None:
            record.write_predictions(predictions, self.attempt)
            save_weights(record, model, self.attempt)
        record.write_confusion(self.num_epochs, confusion, self.attempt)
        saved: dict[str, Any] = {
            "state": self.state.state_dict(),
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "best_epoch": self.best_epoch,
            "cost": dataclasses.asdict(self.cost),
            "meter": self.meter.state(),
        }
        save_checkpoint(record, saved, self.attempt)
        record.write_epochs(self.rows, self.attempt)
        self._write_summary()

    def _write_summary(self, epoch: int | None = None) -> None:
        if self.record is None:
            return
        precision = self.state.precision
        summary = Summary(
            epoch=self.num_epochs if epoch is None else epoch,
            best_epoch=self.best_epoch,
            macro_f1=None if self.best is None else self.best.macro_f1,
            finished=self.ended,
            diverged=self.diverged,
            auto={
                "precision": precision.name,
                "channels_last": precision.channels_last,
                "threads": torch.get_num_threads(),
            },
            cost=self.cost,
            train_class_counts=tuple(int(count) for count in self.state.class_counts),
        )
        self.record.write_summary(summary, self.attempt)

    def report(self) -> EpochReport:
        """Return what is to be told of the newest epoch."""
        diverged = self.diverged is not None
        newest = None if diverged or not self.rows else self.rows[-1]
        return EpochReport(
            epoch=self.num_epochs + diverged,
            macro_f1=math.nan if newest is None else newest.macro_f1,
            curve=tuple((row.epoch, row.macro_f1) for row in self.rows),
            best_epoch=self.best_epoch,
            best_macro_f1=None if self.best is None else self.best.macro_f1,
            final=self.ended,
            diverged=self.diverged,
            row=newest,
            cost=dataclasses.asdict(self.cost),
        )


def divergence(losses: LossMeter, logits: NDArray[np.float16]) -> str | None:
    """Return why an epoch counts as diverged, or None.

    A scaler (fp16) skips the odd step whose gradients overflow; without one, a single loss that is not
    finite has already spoilt the weights.
    """
    if losses.not_finite > losses.tolerated:
        return f"training loss was not finite in {losses.not_finite} of {losses.steps} steps"
    if not np.isfinite(logits).all():
        return "validation logits are not finite"
    return None

"""What a trial has reached: its epochs, the chosen one, whether it has ended; and all of it on disk."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from analysis.errors import TailtuneError
from analysis.metrics import ClassCounts, Metrics, macro_f1
from analysis.records import Cost, EpochRow, Predictions, RecordFolder, Summary
from trainable.bundle import PREPROCESSING
from trainable.checkpoint import save_checkpoint, save_weights
from trainable.config import TrialConfig
from trainable.corrector import Corrected
from trainable.data.dataset import Split
from trainable.evaluate import mean_cross_entropy
from trainable.meter import LossMeter, Meter, peak_host_bytes
from trainable.state import TrialState


@dataclass(frozen=True)
class EpochReport:
    """What is told after an epoch.

    Attributes:
        epoch: Epochs trained, from 1, counted over all folds.
        macro_f1: The epoch's own, on validation; with folds the mean of it and of the finished folds'
            chosen ones; NaN where it diverged.
        curve: (epoch, macro-F1) of every epoch so far, this one included.
        best_epoch: The chosen epoch so far, whose weights are kept, or None; with folds the best fold's.
        best_macro_f1: Macro-F1 of the stored predictions: the chosen epoch's, of every fold so far.
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
    fold: int = 1
    """The fold that the epoch belongs to, from 1."""


class History:
    """The epochs of one trial, fold after fold, and the keeper of its record.

    The stored predictions are those of each fold's chosen epoch, on its own validation images
    (out-of-fold predictions); the kept weights are the best fold's.

    Args:
        config: The trial.
        state: Its changing parts, in the fold that is trained now.
        folds: The splits, one after the other; a single one for a plain trial.
        class_counts: Training images of each class, `(C,)`; with folds their mean.
        record: Where to keep everything, or None to keep it in memory only.
        attempt: Id of this attempt at the trial.
        saved: The checkpoint that `state` was restored from, or None.
    """

    def __init__(
        self,
        config: TrialConfig,
        state: TrialState,
        folds: Sequence[Split],
        class_counts: NDArray[np.int64],
        record: RecordFolder | None,
        attempt: str | None,
        saved: Mapping[str, Any] | None,
    ) -> None:
        self.config, self.state, self.record, self.attempt = config, state, record, attempt
        self.folds, self.class_counts = folds, class_counts
        self.fold = 0
        self.rows: list[EpochRow] = []
        self.chosen: dict[int, Predictions] = {}
        self.best_epoch: int | None = None
        self.best_macro_f1: float | None = None
        self.diverged: str | None = None
        self.posthoc_tau: float | None = None
        passes = 1 + len(config.tta.views(config.data.flips))
        self.cost = Cost(parameters=state.parameters, flops=state.flops, forward_passes=passes)
        self.meter = Meter(state.device)
        if record is not None and saved is not None:
            self._resume(record, saved)

    def _resume(self, record: RecordFolder, saved: Mapping[str, Any]) -> None:
        self.rows = [EpochRow(**row) for row in saved["rows"]]
        self.fold = saved.get("fold", 0)
        self.best_epoch = saved["best_epoch"]
        self.best_macro_f1 = saved.get("best_macro_f1", None if self.best is None else self.best.macro_f1)
        self.posthoc_tau = saved.get("posthoc_tau")
        if len(self.folds) > 1:
            self.chosen = self._stored(record)
        self.cost = Cost(**saved["cost"])
        self.meter = Meter(self.state.device, **saved["meter"])
        former = record.summary
        self.diverged = former.diverged if former is not None and former.epoch > len(self.rows) else None
        self._write_summary()
        record.write_epochs(self.rows, self.attempt)

    def _stored(self, record: RecordFolder) -> dict[int, Predictions]:
        """Return the out-of-fold predictions of the folds that the checkpoint speaks of."""
        stored = record.predictions()
        if stored is None:
            raise TailtuneError(
                f"a trial of several folds goes on from its stored predictions, but {record.path} has none",
                "delete its checkpoint.pt to train it anew",
            )
        masks = [np.isin(stored.indices, fold.val) for fold in self.folds[: self.fold + 1]]
        return {
            at: Predictions(stored.logits[mask], stored.targets[mask], stored.indices[mask], stored.epoch)
            for at, mask in enumerate(masks)
            if mask.any()
        }

    @property
    def num_epochs(self) -> int:
        """Epochs trained in all folds, a diverged one not counted."""
        return len(self.rows)

    @property
    def fold_rows(self) -> list[EpochRow]:
        """The rows of the fold that is trained now."""
        return [row for row in self.rows if row.fold == self.fold + 1]

    @property
    def best(self) -> EpochRow | None:
        """The chosen epoch's row."""
        return None if self.best_epoch is None else self.rows[self.best_epoch - 1]

    @property
    def fold_ended(self) -> bool:
        """Whether the fold that is trained now has had its last epoch."""
        return len(self.fold_rows) >= self.config.epochs or self._stopped_early()

    @property
    def ended(self) -> bool:
        """Whether no epoch will follow."""
        return self.diverged is not None or (self.fold_ended and self.fold == len(self.folds) - 1)

    def next_fold(self, state: TrialState) -> TrialState:
        """Turn to the next fold, whose parts are `state`; return it."""
        self.fold += 1
        self.state = state
        return state

    def _stopped_early(self) -> bool:
        training = self.config.training
        if training.early_stopping is None:
            return False
        best, since = -math.inf, 0
        for row in self.fold_rows:
            best, since = (row.macro_f1, 0) if row.macro_f1 > best + training.min_delta else (best, since + 1)
        return since >= training.early_stopping

    def add(
        self,
        metrics: Metrics,
        confusion: NDArray[np.int32],
        predictions: Predictions,
        stored: Predictions,
        losses: LossMeter,
        model: nn.Module,
        corrected: Corrected | None = None,
        *,
        lr: float,
    ) -> EpochReport:
        """Take the epoch that has just been evaluated into the books and onto the disk; report it.

        Args:
            metrics: Its scores.
            confusion: Its confusion matrix `(C, C)`.
            predictions: What was predicted on validation, logits float16.
            stored: What is kept if the epoch is chosen: the same, or with the views of test-time augmentation.
            losses: Its training losses.
            model: The evaluated model.
            corrected: Its post-hoc correction, which the predictions have and its saved weights will carry.
            lr: Learning rate of its last step.
        """
        epoch = self.num_epochs + 1
        self.diverged = divergence(losses, predictions.logits) or divergence(losses, stored.logits)
        if self.diverged is not None:
            self._write_summary(epoch)
            return self.report()
        val_loss = mean_cross_entropy(predictions.logits, predictions.targets)
        seconds = self.meter.lap()
        row = EpochRow.of(epoch, metrics, train_loss=losses.mean(), val_loss=val_loss, lr=lr, seconds=seconds)
        row = dataclasses.replace(row, fold=self.fold + 1)
        self.rows.append(row)
        chosen = self._choice(self.fold_rows) is row
        best = chosen and self._is_best(row)
        if best:
            self.best_epoch = epoch
            self.posthoc_tau = None if corrected is None else corrected.tau
        if chosen:
            self.chosen[self.fold] = stored
            self.best_macro_f1 = float(macro_f1(ClassCounts.of(self.predictions.confusion())))
        self._measure(best)
        if self.record is not None:
            self._keep(self.record, confusion, model, corrected, chosen=chosen, best=best)
        return self.report()

    def chooses(self, value: float) -> bool:
        """Return whether an epoch with macro-F1 `value`, added now, would stand for its fold."""
        rows = self.fold_rows
        return not rows or self.config.select == "last" or value > self._choice(rows).macro_f1

    def _choice(self, rows: list[EpochRow]) -> EpochRow:
        """Return the epoch that stands for a fold: its best (the first of equals), or its last."""
        return rows[-1] if self.config.select == "last" else max(rows, key=lambda row: row.macro_f1)

    def _is_best(self, row: EpochRow) -> bool:
        """Return whether the weights of a chosen epoch are kept: the first fold's, then any better fold's."""
        if self.fold == 0 or self.best is None:
            return True
        settled = self.config.select == "best" or self.fold_ended
        return settled and row.macro_f1 > self.best.macro_f1

    @property
    def predictions(self) -> Predictions:
        """What is stored: the predictions of every fold's chosen epoch so far, by position in the dataset."""
        parts = list(self.chosen.values())
        if len(parts) == 1:
            return parts[0]
        assert self.best_epoch is not None
        indices = np.concatenate([part.indices for part in parts])
        order = np.argsort(indices)
        logits = np.concatenate([part.logits for part in parts])[order]
        targets = np.concatenate([part.targets for part in parts])[order]
        return Predictions(logits, targets, indices[order], self.best_epoch)

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
            predict_images_per_second=(
                self.meter.predict_images_per_second if chosen else self.cost.predict_images_per_second
            ),
        )

    def _keep(
        self,
        record: RecordFolder,
        confusion: NDArray[np.int32],
        model: nn.Module,
        corrected: Corrected | None,
        *,
        chosen: bool,
        best: bool,
    ) -> None:
        """Write the epoch. The checkpoint comes after what it speaks of: a kill between repeats the epoch."""
        if chosen:
            record.write_predictions(self.predictions, self.attempt)
        if best:
            with nullcontext() if corrected is None else corrected.carried_by(model):
                save_weights(record, model, self.attempt)
            # Each fold normalises by its own training images: what stands beside the weights is their fold's.
            record.write_bytes(PREPROCESSING, self.state.preprocessing.to_json(), self.attempt)
        record.write_confusion(self.num_epochs, confusion, self.attempt)
        saved: dict[str, Any] = {
            "config": self.config.model_dump(mode="json"),
            "state": self.state.state_dict(),
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "fold": self.fold,
            "best_epoch": self.best_epoch,
            "best_macro_f1": self.best_macro_f1,
            "posthoc_tau": self.posthoc_tau,
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
            macro_f1=self.best_macro_f1,
            finished=self.ended,
            diverged=self.diverged,
            auto={
                "precision": precision.name,
                "channels_last": precision.channels_last,
                "threads": torch.get_num_threads(),
                "accumulate": self.state.stepper.accumulate,
            }
            | ({} if self.posthoc_tau is None else {"posthoc_tau": self.posthoc_tau}),
            cost=self.cost,
            train_class_counts=tuple(int(count) for count in self.class_counts),
        )
        self.record.write_summary(summary, self.attempt)

    def report(self) -> EpochReport:
        """Return what is to be told of the newest epoch."""
        diverged = self.diverged is not None
        newest = None if diverged or not self.rows else self.rows[-1]
        curve = self._curve()
        return EpochReport(
            epoch=self.num_epochs + diverged,
            macro_f1=math.nan if newest is None else curve[-1][1],
            curve=curve,
            best_epoch=self.best_epoch,
            best_macro_f1=self.best_macro_f1,
            final=self.ended,
            diverged=self.diverged,
            row=newest,
            cost=dataclasses.asdict(self.cost),
            fold=self.fold + 1,
        )

    def _curve(self) -> tuple[tuple[int, float], ...]:
        """Return what was told of each epoch: the mean of its own macro-F1 and the finished folds' chosen."""
        told: list[tuple[int, float]] = []
        finished: list[float] = []
        for _, group in groupby(self.rows, key=lambda row: row.fold):
            rows = list(group)
            told += [(row.epoch, fmean([*finished, row.macro_f1])) for row in rows]
            finished.append(self._choice(rows).macro_f1)
        return tuple(told)


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

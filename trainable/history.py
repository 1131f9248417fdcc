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

from analysis.metrics import ClassCounts, Metrics, macro_f1
from analysis.records import Cost, EpochRow, Predictions, Summary
from trainable.config import TrialConfig
from trainable.corrector import Corrected
from trainable.data.dataset import Split
from trainable.evaluate import mean_cross_entropy
from trainable.keeper import Keeper
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
        keeper: Writes the record, or None to keep everything in memory only.
        saved: The checkpoint that `state` was restored from, or None.
    """

    def __init__(
        self,
        config: TrialConfig,
        state: TrialState,
        folds: Sequence[Split],
        class_counts: NDArray[np.int64],
        keeper: Keeper | None,
        saved: Mapping[str, Any] | None,
    ) -> None:
        self.config, self.state, self.keeper = config, state, keeper
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
        if keeper is not None:
            if saved is not None:
                self._resume(keeper, saved)
            keeper.record.drop(keeper.attempt, after=len(self.rows))

    def _resume(self, keeper: Keeper, saved: Mapping[str, Any]) -> None:
        """Go back to what the checkpoint speaks of, on disk as well: small files may be of later epochs."""
        self.rows = [EpochRow(**row) for row in saved["rows"]]
        for fold, (*arrays, epoch) in saved["chosen"].items():
            logits, targets, indices = (array.cpu().numpy() for array in arrays)
            self.chosen[fold] = Predictions(logits, targets, indices, epoch)
        self.fold, self.best_epoch = saved["fold"], saved["best_epoch"]
        self.best_macro_f1, self.posthoc_tau = saved["best_macro_f1"], saved["posthoc_tau"]
        self.cost = Cost(**saved["cost"])
        self.meter = Meter(self.state.device, **saved["meter"])
        former = keeper.record.summary
        if former is not None and former.epoch == len(self.rows) + 1:
            self.diverged = former.diverged
        keeper.record.write_predictions(self.predictions, keeper.attempt)
        keeper.record.write_epochs(self.rows, keeper.attempt)
        keeper.record.write_summary(self._summary(), keeper.attempt)

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
            if self.keeper is not None:
                self.keeper.record.write_summary(self._summary(), self.keeper.attempt)
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
        if self.keeper is not None:
            if best:
                with nullcontext() if corrected is None else corrected.carried_by(model):
                    self.keeper.hold(epoch, model, self.state.preprocessing.to_json())
            kept = self.predictions if chosen else None
            self.keeper.epoch(confusion, kept, self.rows, self._summary(), self._saved)
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

    def _saved(self) -> dict[str, Any]:
        """Return what a checkpoint holds: tensors, numbers, strings and containers of them."""
        chosen = {
            fold: (*map(torch.from_numpy, (part.logits, part.targets, part.indices)), part.epoch)
            for fold, part in self.chosen.items()
        }
        return {
            "config": self.config.model_dump(mode="json"),
            "state": self.state.state_dict(),
            "rows": [vars(row) for row in self.rows],
            "chosen": chosen,
            "fold": self.fold,
            "best_epoch": self.best_epoch,
            "best_macro_f1": self.best_macro_f1,
            "posthoc_tau": self.posthoc_tau,
            "cost": dataclasses.asdict(self.cost),
            "meter": self.meter.state(),
        }

    def _summary(self) -> Summary:
        precision = self.state.precision
        return Summary(
            epoch=self.num_epochs + (self.diverged is not None),
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

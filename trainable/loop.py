"""The training loop: one trial, epoch by epoch, from top to bottom. Runs without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from analysis.metrics import Metrics
from analysis.records import Predictions, RecordFolder
from trainable.checkpoint import load_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.evaluate import predict_logits
from trainable.folds import fold_config, make_folds, mean_class_counts
from trainable.history import EpochReport, History
from trainable.keeper import CHECKPOINT_SECONDS, Keeper
from trainable.seeding import seeded
from trainable.state import TrialState

__all__ = ["EpochReport", "fit"]


def fit(
    config: TrialConfig,
    dataset: ImageDataset,
    split: Split,
    *,
    record: RecordFolder | None = None,
    attempt: str | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    weights_from: float = 0.0,
    device: torch.device | str | None = None,
    cache_dir: Path | None = None,
) -> Iterator[EpochReport]:
    """Train the trial that `config` describes; yield a report after each epoch.

    Where `record` holds a checkpoint of this trial, training goes on from it: the checkpoint's
    epoch is reported once more, without training, and what follows equals an uninterrupted run.

    Args:
        config: The whole trial.
        dataset: Images and labels.
        split: Trained on `split.train`, judged on `split.val`; `split.test` is never looked at. With
            `config.data.folds`, the first two together are dealt into folds, trained one after the other.
        record: Where record and checkpoint go; None keeps nothing.
        attempt: Id of this attempt; writing raises `Superseded` once another has claimed the record.
        checkpoint_seconds: Least time between two checkpoints, see `Keeper`; 0 writes one after every epoch.
        weights_from: Macro-F1 in [0, 1] below which the trial's end is no reason to write its weights.
        device: Torch device; None takes the GPU where there is one.
        cache_dir: Where measurements and other things that trials share are kept; None keeps them in memory.

    Raises:
        TailtuneError: If the checkpoint cannot be read, or is another trial's.

    Yields:
        A report an epoch; the last has `final` set, and `diverged` where loss or logits were not finite.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    saved = load_checkpoint(record, device, config)
    folds = make_folds(dataset, split, config.data.folds, config.data.split_seed)
    views = config.tta.views(config.data.flips)
    at = 0 if saved is None else saved["fold"]
    trial = TrialState(fold_config(config, at), dataset, folds[at], device, saved, cache_dir)
    keeper = None if record is None else Keeper(record, attempt, checkpoint_seconds, weights_from)
    history = History(config, trial, folds, mean_class_counts(dataset, folds), keeper, saved)
    if history.num_epochs or history.ended:
        yield history.report()
    while not history.ended:
        if history.fold_ended:
            at = history.fold + 1
            other = TrialState(
                fold_config(config, at), dataset, folds[at], device, None, cache_dir, trial.precision
            )
            trial = history.next_fold(other)
        epoch, lr = len(history.fold_rows), 0.0
        losses = trial.loss_meter()
        positions = trial.begin_epoch(epoch)
        with seeded(device, trial.config.seed, "epoch", epoch), history.meter.training(len(positions)):
            for number, batch in enumerate(trial.batches.train(positions, epoch)):
                lr = trial.set_lr(epoch, number)
                losses.add(trial.stepper(batch.mixed), batch.positions)
                trial.averager.after_step()
        trial.averager.after_epoch(epoch, trial.batches.clean)
        model = trial.averager.evaluated()
        val = folds[at].val
        with history.meter.predicting(len(val)):
            logits = predict_logits(model, trial.batches.evaluate(val), trial.precision, device)
        corrected = trial.correct(model, logits, dataset, val)
        if corrected is not None:
            logits = corrected.logits(logits)
        predictions = Predictions(logits, dataset.labels[val], val, history.num_epochs + 1)
        confusion = predictions.confusion()
        metrics = Metrics.from_confusion(confusion, history.class_counts)
        trial.end_epoch(metrics, losses)
        stored = predictions
        if views and history.chooses(metrics.macro_f1):
            images = trial.batches.evaluate(val)
            with history.meter.predicting(len(val)):
                logits = predict_logits(model, images, trial.precision, device, views, corrected)
            stored = Predictions(logits, predictions.targets, val, predictions.epoch)
        yield history.add(metrics, confusion, predictions, stored, losses, model, corrected, lr=lr)

"""A trial's record as it is written: small files after each epoch, large ones as often as they are worth it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from analysis.records import EpochRow, Predictions, RecordFolder, Summary
from trainable.bundle import PREPROCESSING
from trainable.checkpoint import copy_weights, save_checkpoint, save_weights

CHECKPOINT_SECONDS = 5.0
SHARE = 0.01
"""Of a trial's time that its checkpoints may take."""
MOST_SECONDS = 300.0
"""However slow the disk, a checkpoint is due by then; its cost may be more than its share."""


class Keeper:
    """Writes the record of one trial.

    The weights of the chosen epoch wait in memory for the next checkpoint, or for the end of a trial that has
    reached `weights_from`; a checkpoint is written after the first epoch that ends `checkpoint_seconds` and a
    hundred times what one takes after the last. A kill costs the training since then, which a resumed trial
    repeats, on a CPU with the same result.

    Args:
        record: Where everything goes.
        attempt: Id of this attempt at the trial.
        checkpoint_seconds: Least time between two checkpoints, at least 0; 0 writes one after every epoch.
        weights_from: Macro-F1 in [0, 1] below which nobody will keep the weights: the trial's end is then no
            reason to write them.
    """

    def __init__(
        self,
        record: RecordFolder,
        attempt: str | None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        weights_from: float = 0.0,
    ) -> None:
        self.record, self.attempt = record, attempt
        self._weights_from = weights_from
        self._least = self._wait = checkpoint_seconds
        self._last = time.perf_counter()
        self._weights: dict[str, Tensor] = {}
        self._waiting: tuple[int, bytes] | None = None
        """Epoch and preprocessing of weights that are not written yet."""

    def hold(self, epoch: int, model: nn.Module, preprocessing: bytes) -> None:
        """Take a copy of the weights of a new best epoch, and of what stands beside them.

        Args:
            epoch: From 1.
            model: As it is to be exported.
            preprocessing: Each fold normalises by its own training images: that of the weights' fold.
        """
        copy_weights(model, self._weights)
        self._waiting = (epoch, preprocessing)

    def epoch(
        self,
        confusion: Any,
        predictions: Predictions | None,
        rows: list[EpochRow],
        summary: Summary,
        state: Callable[[], dict[str, Any]],
    ) -> None:
        """Write an epoch. The checkpoint comes after what it speaks of: a kill between repeats the epoch.

        Args:
            confusion: Its confusion matrix `(C, C)`.
            predictions: What the record is to hold from now on; None where that has not changed.
            rows: Of every epoch so far.
            summary: As of this epoch.
            state: Returns what a checkpoint holds.
        """
        if predictions is not None:
            self.record.write_predictions(predictions, self.attempt)
        self.record.write_confusion(len(rows), confusion, self.attempt)
        start = time.perf_counter()
        due = start - self._last >= self._wait
        will_stay = summary.finished and (summary.macro_f1 or 0.0) >= self._weights_from
        if due or will_stay:
            self._write_weights()
        # At the end where there is one already: it must not speak of weights that are no longer there.
        if due or (will_stay and (self.record.path / "checkpoint.pt").exists()):
            save_checkpoint(self.record, state(), self.attempt)
            self._last = time.perf_counter()
            took = self._last - start
            self._wait = max(self._least, min(took / SHARE, MOST_SECONDS)) if self._least else 0.0
        self.record.write_epochs(rows, self.attempt)
        self.record.write_summary(summary, self.attempt)

    def _write_weights(self) -> None:
        """Write the weights that wait, if any do."""
        if self._waiting is None:
            return
        epoch, preprocessing = self._waiting
        save_weights(self.record, self._weights, epoch, self.attempt)
        self.record.write_bytes(PREPROCESSING, preprocessing, self.attempt)
        self._waiting = None

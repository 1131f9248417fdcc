"""P8: metrics, checkpoints, records and reports together, as a share of a trial's wall time.

    python -m benchmarks.bookkeeping [--rounds 5]

A search as `tailtune search` runs it, one trial at a time, one warm worker. A trial's wall time, its median
shown in seconds, runs from its first step being asked for to its last report being taken in; what is neither
training nor a validation forward pass nor building the trial is bookkeeping, the waits for the driver between
two epochs among it. Of the weights a search keeps those of its best trials; the second row is of trials that
did not write theirs at their end.
"""

from __future__ import annotations

import functools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from analysis.records import TrialState
from benchmarks.epoch_efficiency import CLASSES
from benchmarks.studies import A_GPU, Pinned, study_in
from benchmarks.table import Row, run, shown
from tailtune.exchange import Observer
from tailtune.ray_runtime import connected_ray
from tailtune.search import run_search
from trainable import loop
from trainable.config import DataConfig, TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.tune_adapter import ImageTrainable, SharedData

EPOCHS = 5
NOTES, WEIGHTS = "bookkeeping.json", "best.safetensors"


class Ended(Observer):
    """Remembers when the study had the end of each trial."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Look at the clock."""
        self.times[number] = time.time()


class Clocked(ImageTrainable):
    """Adds up what building, training and validation took; leaves it in the trial's folder."""

    def _begin(self, config: dict[str, Any]) -> None:
        self._begun, self._work, self._notes = 0.0, 0.0, Path(config["record"]) / NOTES
        for name in ("predict_logits", "TrialState"):
            call = getattr(loop, name)
            setattr(loop, name, self._clocked(getattr(call, "__wrapped__", call)))
        super()._begin(config)

    def _clocked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self._work += time.perf_counter() - start

        return timed

    def step(self) -> dict[str, Any]:
        """Train an epoch."""
        self._begun = self._begun or time.time()
        result = super().step()
        trained = result["epoch"] * len(self._split.train) / result["cost"]["images_per_second"]
        wrote = (self._notes.parent / WEIGHTS).exists()
        self._notes.write_text(json.dumps([self._begun, self._work + trained, wrote]), encoding="utf-8")
        return result


def shares(
    home: Path, config: TrialConfig, dataset: ImageDataset, split: Split, trials: int, *, all_stay: bool
) -> tuple[list[float], list[float]]:
    """Return bookkeeping's share of each trial and its seconds, the first, which starts the worker, left out.

    All trials write their weights at their end, or the best one's alone stay and those that write are left out.
    """
    keep_best = trials + 1 if all_stay else 1
    study = study_in(
        home, "pinned", trials=trials + 1, epochs=EPOCHS, base=config, gpus=A_GPU, keep_best=keep_best
    )
    ended = Ended()
    run_search(
        study,
        Pinned(config),
        Clocked,
        shared=lambda _: {"data": SharedData.put(dataset, split), "threads": 1, "cache_dir": home / "cache"},
        observer=ended,
    )
    found, seconds = [], []
    for number in range(1, trials + 1):
        notes = study.folder / "trials" / str(number) / NOTES
        begun, work, wrote = json.loads(notes.read_text(encoding="utf-8"))
        if wrote == all_stay:
            seconds.append(ended.times[number] - begun)
            found.append(1.0 - work / seconds[-1])
    return found, seconds


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a data set, and one for small trials that write no weights."""
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = DataConfig(flips="none")
        digits = load_dataset("digits-lt", data=data, cache_dir=home / "cache")
        fields = {"epochs": EPOCHS, "backbone": "resnet10t", "batch_size": 64, "data": data.model_dump()}
        plain = TrialConfig.model_validate(fields)
        averaged = TrialConfig.model_validate({**fields, "averaging": "ema"})
        with connected_ray(home / "ray-home", 1):
            digits_split = make_split(digits, seed=0)
            cases = [
                (plain, (digits, digits_split), "digits-lt", True),
                (plain, (digits, digits_split), "digits-lt, weights that would not stay", False),
                (averaged, noise(2048, 512), "2,048 + 512 images of 48x48, 100 classes, EMA", True),
            ]
            if A_GPU:  # where those are over in a second
                many = noise(50_000, 10_000, side=32)
                cases.append((averaged, many, "50,000 + 10,000 images of 32x32, 100 classes, EMA", True))
            for config, (dataset, split), what, all_stay in cases:
                trials = rounds if all_stay else 2 * rounds + 2
                found, seconds = shares(home, config, dataset, split, trials, all_stay=all_stay)
                label = f"books' share of a trial: resnet10t, {what}"
                if found:
                    label += f", {statistics.median(seconds):.1f} s"
                    passes = statistics.median(found) < 0.02
                    yield Row("P8", label, "under 0.02", shown(found, 3), passes)
                else:  # each trial was better than those before, or had a checkpoint
                    yield Row("P8", label, "under 0.02", "no trial without weights", passes=False)


def noise(train: int, val: int, side: int = 48) -> tuple[ImageDataset, Split]:
    """Return images of noise."""
    count = train + val
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    names = tuple(str(label) for label in range(CLASSES))
    dataset = ImageDataset(
        images, np.arange(count) % CLASSES, names, "noise", "noise", np.zeros(count, dtype=np.int8)
    )
    return dataset, Split(np.arange(train), np.arange(train, count), np.arange(0))


if __name__ == "__main__":
    run(rows, __doc__)

"""Trials a minute on one GPU, as one, two or four of them are packed onto it.

    python -m benchmarks.packing [--rounds 1]

A search as `tailtune search` runs it: resnet10t with EMA and Mixup on 8,192 + 1,024 images of 32x32, six epochs
a trial. Of n at a time, the first n trials are left out, which start the workers, and the last n - 1, beside
which slots are free: all slots are busy while the clock runs.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from analysis.records import TrialState
from benchmarks.bookkeeping import noise
from benchmarks.studies import Pinned, study_in
from benchmarks.table import Row, run, shown
from tailtune.exchange import Observer
from tailtune.ray_runtime import connected_ray
from tailtune.search import run_search
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.tune_adapter import ImageTrainable, SharedData

EPOCHS, PACKED = 6, (1, 2, 4)


class Ends(Observer):
    """Remembers when trials ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Look at the clock."""
        self.times.append(time.perf_counter())


def trials_a_minute(home: Path, config: TrialConfig, dataset: ImageDataset, split: Split, packed: int) -> float:
    """Return the trials that end in a minute with `packed` at a time."""
    trials, ends, share = 4 * packed + 4, Ends(), 1.0 / packed
    study = study_in(home, "pinned", trials=trials, epochs=EPOCHS, concurrent=packed, base=config, gpus=share)
    data = SharedData.put(dataset, split)
    run_search(
        study,
        Pinned(config),
        ImageTrainable,
        shared=lambda _: {"data": data, "threads": 1, "cache_dir": home / "cache", "gpu_share": share},
        observer=ends,
    )
    first, last = ends.times[packed - 1], ends.times[-packed]
    return 60.0 * (trials - 2 * packed + 1) / (last - first)


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row for each number of trials at a time."""
    warnings.filterwarnings("ignore")
    if not torch.cuda.is_available():
        yield Row("-", "trials a minute on one GPU", "stated", "no GPU here", False)
        return
    fields = {
        "epochs": EPOCHS,
        "backbone": "resnet10t",
        "batch_size": 128,
        "mixing": "mixup",
        "averaging": "ema",
    }
    config = TrialConfig.model_validate({**fields, "augment": ["flip", "crop", "rotation", "brightness"]})
    dataset, split = noise(8192, 1024, side=32)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with connected_ray(home / "ray-home", max(PACKED)):
            found: dict[int, list[float]] = {packed: [] for packed in PACKED}
            for _ in range(rounds):
                for packed in PACKED:
                    found[packed].append(trials_a_minute(home, config, dataset, split, packed))
        for packed, rates in found.items():
            what = f"trials a minute, {packed} at a time on one GPU"
            yield Row("-", what, "stated", shown(rates, 1), True)


if __name__ == "__main__":
    run(rows, __doc__)

"""P2: a training epoch against the sources' own pipeline: the same network, loss, optimizer, Mixup and EMA.

    python -m benchmarks.against_sources [--rounds 5]

Theirs: ImageFolder on PNG files that are already at the wanted size, per-image Pillow transforms, a DataLoader
with the worker count that is fastest here (timed before), fp32. Ours: as a trial trains, `precision: auto`. The
pictures are smooth, as photographs are. Both epochs alternate within a round.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.epoch_efficiency import NETWORKS, SIZES, epoch_of, random_images, trial_config
from benchmarks.sources_pipeline import SourcesTrial, best_workers, write_files
from benchmarks.table import Row, run, shown
from trainable.data.dataset import ImageDataset, Split
from trainable.state import TrialState

IMAGES = 512
RESNET = NETWORKS[0]


def pictures(size: tuple[int, int]) -> tuple[ImageDataset, Split]:
    """Return smooth images to train on: files of noise would be dearer to read."""
    dataset, split = random_images(IMAGES, size)
    coarse = torch.rand(len(dataset.labels), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(coarse, size, mode="bicubic").clamp_(0.0, 1.0).mul_(255.0)
    return dataset.with_images(np.ascontiguousarray(smooth.byte().permute(0, 2, 3, 1).numpy())), split


def speedups(network: str, size: tuple[int, int], rounds: int) -> tuple[list[float], int]:
    """Return our images a second over theirs for each round, and their best number of workers."""
    dataset, split = pictures(size)
    config = trial_config(network, rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(dataset, Path(folder))
        workers = best_workers(config, dataset, split, files)
        theirs = SourcesTrial(config, dataset, split, files, workers)
        epoch = epoch_of(TrialState(config, dataset, split, torch.device("cpu")))

        def sources(number: int) -> float:
            start = time.perf_counter()
            theirs.train(number)
            return len(split.train) / (time.perf_counter() - start)

        sources(0), epoch(0)
        return [epoch(number + 1) / sources(number + 1) for number in range(rounds)], workers


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a network and size, and the median of all."""
    medians = []
    for network in NETWORKS:
        goal = 3.0 if network == RESNET else 2.0
        for size in SIZES:
            found, workers = speedups(network, size, rounds)
            medians.append(statistics.median(found))
            what = f"epoch over the sources' ({workers} workers): {network}, {size[0]}x{size[1]}"
            yield Row("P2", what, f"{goal:g}x", shown(found, 2, "x"), medians[-1] >= goal)
    overall = statistics.median(medians)
    yield Row("P2", "median of these", "2x", f"{overall:.2f}x", overall >= 2.0)


if __name__ == "__main__":
    run(rows, __doc__)

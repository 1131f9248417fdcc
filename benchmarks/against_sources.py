"""P2: a training epoch against the sources' own pipeline: the same network, loss, optimizer, Mixup and EMA.

    python -m benchmarks.against_sources [--rounds 5]

Theirs: ImageFolder on PNG files that are already at the wanted size, per-image Pillow transforms, a DataLoader
with the worker count that is fastest here (timed before), fp32. Ours: as a trial trains, `precision: auto`. The
pictures are smooth, as photographs are. Both alternate within a round, each in a process of its own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.epoch_efficiency import NETWORKS, SIZES, epoch_of, random_images, trial_config
from benchmarks.processes import Epochs, in_a_process
from benchmarks.sources_pipeline import SourcesTrial, best_workers, write_files
from benchmarks.table import Row, run, shown
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.host_memory import keep_freed_memory
from trainable.state import TrialState

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
IMAGES, CONVOLVED = 4096 if ON_GPU else 512, (64, 64, 32)
RESNET = NETWORKS[0]


def pictures(size: tuple[int, int]) -> tuple[ImageDataset, Split]:
    """Return smooth images to train on: files of noise would be dearer to read."""
    dataset, split = random_images(IMAGES, size)
    coarse = torch.rand(len(dataset.labels), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(coarse, size, mode="bicubic").clamp_(0.0, 1.0).mul_(255.0)
    return dataset.with_images(np.ascontiguousarray(smooth.byte().permute(0, 2, 3, 1).numpy())), split


def our_epochs(config: TrialConfig, dataset: ImageDataset, split: Split) -> Epochs:
    """Return what trains an epoch as a worker does, and returns images a second."""
    keep_freed_memory()
    return epoch_of(TrialState(config, dataset, split, DEVICE))


def their_epochs(config: TrialConfig, dataset: ImageDataset, split: Split, files: Path, workers: int) -> Epochs:
    """Return what trains an epoch of the sources' pipeline, and returns images a second."""
    trial = SourcesTrial(config, dataset, split, files, workers, DEVICE)

    def epoch(number: int) -> float:
        start = time.perf_counter()
        trial.train(number)
        return len(split.train) / (time.perf_counter() - start)

    return epoch


def speedups(network: str, size: tuple[int, int], rounds: int) -> tuple[list[float], int]:
    """Return our images a second over theirs for each round, and their best number of workers."""
    dataset, split = pictures(size)
    config = trial_config(network, rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(dataset, Path(folder))
        workers = best_workers(config, dataset, split, files, DEVICE)
        with (
            in_a_process(partial(our_epochs, config, dataset, split)) as ours,
            in_a_process(partial(their_epochs, config, dataset, split, files, workers)) as theirs,
        ):
            theirs(0), ours(0)
            return [ours(number + 1) / theirs(number + 1) for number in range(rounds)], workers


def convolution(dtype: torch.dtype) -> float:
    """Return the GFLOP a second of a 3x3 convolution of 64 channels, the best of a few."""
    batch, channels, side = CONVOLVED
    images = torch.randn(batch, channels, side, side).to(dtype=dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3).to(dtype=dtype, memory_format=torch.channels_last)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        functional.conv2d(images, kernel, padding=1)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * images.numel() * channels * 9 / min(seconds)


def rows(rounds: int) -> Iterator[Row]:
    """Yield what the processor's arithmetic allows, a row a network and size, and the median of all."""
    if not ON_GPU and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        full, half = convolution(torch.float32), convolution(torch.bfloat16)
        rates = f"{half / full:.2f}x ({half:.0f} and {full:.0f} GFLOP/s)"
        yield Row("P2", "this processor: bf16 over fp32 in a 3x3 convolution", "stated", rates, True)
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

"""P3: what `precision: auto` costs against the best fixed choice, its own timing included.

    python -m benchmarks.precision_auto [--rounds 5]

Every fixed choice (fp32 and bf16, channels-last and contiguous) trains the same steps in turn. The loss is
reckoned for a trial of 5 epochs of 2,048 images, the first of its network, shape and machine: (timing + 5
epochs as chosen) / (5 epochs of the best fixed choice). Later trials read the choice from the cache. On a GPU
building the trial and its first epoch, for which kernels may be compiled, are reckoned in as measured; a choice
may find compiled what one before it needed too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.epoch_efficiency import NETWORKS, SIZES, epoch_of, random_images, trial_config
from benchmarks.table import Row, run, shown
from trainable.backbones import build_backbone
from trainable.config import TrialConfig
from trainable.cpu_kernels import quicken
from trainable.data.dataset import ImageDataset, Split
from trainable.precision import Precision
from trainable.precision_choice import resolve_precision
from trainable.state import TrialState

EPOCHS, EPOCH_IMAGES, TIMED_IMAGES = 5, 2048, 256


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a network and size."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = ("fp32", "bf16") if device.type == "cpu" or torch.cuda.is_bf16_supported() else ("fp32", "fp16")
    fixed = [Precision(name, channels_last=last) for name in names for last in (True, False)]
    if device.type == "cuda":  # what a process does once
        epoch_of(TrialState(trial_config(NETWORKS[0], 1), *random_images(TIMED_IMAGES, SIZES[0]), device))(0)
    for network in NETWORKS:
        for size in SIZES:
            dataset, split = random_images(TIMED_IMAGES, size)
            config = trial_config(network, rounds + 2)
            chosen, timing = chosen_by(config, dataset, split, device)
            epochs, first = {}, {}
            for precision in fixed:
                began = time.perf_counter()
                epochs[precision] = epoch_of(TrialState(config, dataset, split, device, precision=precision))
                epochs[precision](0)
                first[precision] = time.perf_counter() - began if device.type == "cuda" else 0.0
            rates = [{p: epochs[p](number + 1) for p in fixed} for number in range(rounds)]
            seconds = [{p: first[p] + EPOCHS * EPOCH_IMAGES / rate[p] for p in fixed} for rate in rates]
            best = min(fixed, key=lambda p: statistics.median(each[p] for each in seconds))
            losses = [(timing + each[chosen]) / each[best] for each in seconds]
            what = (
                f"auto ({named(chosen)}) over the best fixed ({named(best)}): {network}, {size[0]}x{size[1]}, "
                f"timing {timing:.2f} s"
            )
            yield Row("P3", what, "at most 1.05", shown(losses, 3), statistics.median(losses) <= 1.05)


def chosen_by(
    config: TrialConfig, dataset: ImageDataset, split: Split, device: torch.device
) -> tuple[Precision, float]:
    """Return what `auto` chooses for a trial, the first of its kind, and the seconds that the choice takes."""
    size, channels = dataset.image_size, dataset.channels
    model = build_backbone(config.backbone, dataset.num_classes, size, channels)
    if device.type == "cpu":
        quicken(model, config)
    start, count = time.perf_counter(), len(split.train) + len(split.val)
    chosen = resolve_precision(config, model, size, channels, count, device, None)
    return chosen, time.perf_counter() - start


def named(precision: Precision) -> str:
    """Return the format and the layout in a word or two."""
    return precision.name if precision.channels_last else f"{precision.name} contiguous"


if __name__ == "__main__":
    run(rows, __doc__)

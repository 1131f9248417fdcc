"""Images a second that the batches make, beside a plain normalising pass over the same images.

Every row is measured in turn, round after round, on as many threads as are given; the last column is the
median over the rounds of (this row's time / the plain pass's time of the same round).

    python -m benchmarks.augment_speed --threads 2 --rounds 7

On a machine that others use at the same time, two threads wait for each other and wall time says little:
`--threads 1 --cpu-time` counts the seconds that the process really computed. `--parts` shows instead what it is
worth on a CPU to finish a batch a few images at a time, in turn with all of them at once.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch

from benchmarks.table import shown
from trainable.augment import AUGMENT, pipeline
from trainable.config import TrialConfig
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset
from trainable.host_memory import keep_freed_memory
from trainable.precision import Precision

Clock = Callable[[], float]
SHAPES = [(32, 32, 3), (48, 48, 1), (60, 80, 3)]
FUSED = ("flip", "crop", "rotation", "scale", "brightness", "colour_jitter", "erasing")
ROWS: list[tuple[str, tuple[str, ...]]] = [
    ("normalise only", ()),
    ("flip + crop", ("flip", "crop")),
    ("flip + crop + rotation + brightness + erasing", ("flip", "crop", "rotation", "brightness", "erasing")),
    ("all fused", FUSED),
    *((name, (name,)) for name in AUGMENT.names() if name not in FUSED),
]


def dataset_of(shape: tuple[int, int, int], count: int) -> ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = rng.integers(0, 10, count).astype(np.int64)
    names = tuple(str(i) for i in range(10))
    return ImageDataset(images, labels, names, "synthetic", "synthetic", np.zeros(count, dtype=np.int8))


def seconds_an_epoch(batches: Batches, count: int, device: torch.device, clock: Clock) -> float:
    start = clock()
    for _ in batches.train(np.arange(count), 0):
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def measure(shape: tuple[int, int, int], count: int, rounds: int, device: torch.device, clock: Clock) -> None:
    dataset, everything = dataset_of(shape, count), np.arange(count)
    precision = Precision("fp32", channels_last=device.type == "cuda")
    rows = [
        Batches(dataset, everything, config=TrialConfig(augment=ops), device=device, precision=precision)
        for _, ops in ROWS
    ]
    for batches in rows:
        seconds_an_epoch(batches, min(count, 512), device, clock)
    times = [[seconds_an_epoch(batches, count, device, clock) for batches in rows] for _ in range(rounds)]
    print(f"\n| {shape[0]}x{shape[1]}x{shape[2]} | images/s | of the plain pass's time |")
    print("|---|---:|---:|")
    for (name, _), own in zip(ROWS, zip(*times, strict=True), strict=True):
        ratio = statistics.median(mine / row[0] for mine, row in zip(own, times, strict=True))
        print(f"| {name} | {count / statistics.median(own):,.0f} | {ratio:.1f}x |")


def in_parts(shape: tuple[int, int, int], count: int, rounds: int, clock: Clock) -> str:
    """Return a row: whole batches over those in parts, mixed by Mixup too as a trial's are."""
    config = TrialConfig(augment=ROWS[2][1], mixing="mixup", batch_size=128)
    precision = Precision("fp32", channels_last=True)
    device, everything = torch.device("cpu"), np.arange(count)
    batches = Batches(dataset_of(shape, count), everything, config=config, device=device, precision=precision)
    ratios, fewer = [], []
    for _ in range(rounds + 1):
        fewer.append(seconds_an_epoch(batches, count, device, clock))
        with mock.patch.object(pipeline, "CACHED_BYTES", 1 << 60):
            ratios.append(seconds_an_epoch(batches, count, device, clock) / fewer[-1])
    milliseconds = 1e3 * statistics.median(fewer[1:]) * config.batch_size / count
    size = f"{shape[0]}x{shape[1]}x{shape[2]}"
    return f"| {size} | {milliseconds:.2f} | {shown(ratios[1:], 2, 'x')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--parts", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads, {options.rounds} rounds")
    clock = time.process_time if options.cpu_time else time.perf_counter
    if options.parts:
        keep_freed_memory()
        print(
            "\n| images | ms a batch of 128, in parts | whole over it: median (every round) |\n|---|---:|---|"
        )
        for shape in [*SHAPES, (96, 96, 3), (224, 224, 3)]:
            count = options.images if shape[0] < 200 else options.images // 8
            print(in_parts(shape, count, options.rounds, clock), flush=True)
        return
    for shape in SHAPES:
        measure(shape, options.images, options.rounds, torch.device(options.device), clock)


if __name__ == "__main__":
    main()

"""Training images a second of every network that `docs/backbones.md` lists, in a CSV beside this file.

    python -m benchmarks.backbone_speed [--minutes 5] [--anew]

Forward and backward pass of 8 images in fp32, channels last, on all cores; the median of the steps that fit
into a second, and at least one, after one to warm up. Networks that the file has are not measured again; run it
until it says that none are left, then `python -m trainable.backbones.page > docs/backbones.md`.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import statistics
import time
from pathlib import Path

import torch

from trainable.backbones import Backbone, build_backbone
from trainable.backbones.families import FAMILIES
from trainable.backbones.page import NUM_CLASSES, SIZES, read_speeds

FILE = Path(__file__).with_suffix(".csv")
BATCH_SIZE = 8
SECONDS = 1.0


def images_per_second(name: str, size: tuple[int, int]) -> float:
    """Return the images a second of forward and backward passes of the network called `name`."""
    model = build_backbone(Backbone(name=name), NUM_CLASSES, size, 3).to(memory_format=torch.channels_last)
    images = torch.rand(BATCH_SIZE, 3, *size).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(BATCH_SIZE)
    laps: list[float] = []
    for step in range(1000):
        start = time.perf_counter()
        torch.nn.functional.cross_entropy(model(images), targets).backward()
        if step > 0:
            laps.append(time.perf_counter() - start)
        if sum(laps) > SECONDS:
            break
    return BATCH_SIZE / statistics.median(laps)


def main() -> None:
    """Measure what is missing, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--anew", action="store_true", help="forget what is known")
    given = parser.parse_args()
    start = time.monotonic()
    known = {} if given.anew else read_speeds(FILE)
    names = list(dict.fromkeys(name for family in FAMILIES for name in family.names))
    missing = [name for name in names if name not in known]
    while missing and time.monotonic() - start < 60 * given.minutes:
        torch.manual_seed(0)
        name = missing.pop(0)
        first, second = (images_per_second(name, size) for size in SIZES)
        known[name] = (first, second)
        print(f"{name}: {first:.1f}, {second:.1f}", flush=True)
    about = f"{datetime.date.today()}, {os.cpu_count()} {platform.machine()} cores, torch {torch.__version__}"
    with FILE.open("w", encoding="utf-8", newline="") as file:
        file.write(f"# images a second, {about}, python -m benchmarks.backbone_speed\n")
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("name", *("{}x{}".format(*size) for size in SIZES)))
        rows.writerows((name, *(f"{value:.1f}" for value in known[name])) for name in names if name in known)
    print(f"{len(missing)} left")


if __name__ == "__main__":
    main()

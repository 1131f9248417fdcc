"""P9: trials a minute on cached features, against the same heads trained through the backbone.

    python -m benchmarks.frozen_rate [--rounds 5]

A trial is 20 epochs of a head drawn from the space `frozen` on 2,048 + 512 images of noise, its network and
its records made anew; the features are there (`benchmarks.frozen_features` counts the pass over real images).
Through the backbone one epoch is measured, and taken 20 times. EfficientNet-Lite0 at 64x64, on a GPU at 224x224
too, with the weights of a file, for what they are does not change the time. Processor seconds of one thread; on
a GPU those on the clock, a first trial and a first epoch left out, for they load kernels.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import optuna
import torch

from analysis.records import RecordFolder
from benchmarks.bookkeeping import noise
from benchmarks.frozen_features import epoch_through_the_backbone, heads, seconds_of
from benchmarks.table import Row, run, shown
from trainable.backbones import build_backbone
from trainable.checkpoint import copy_weights, save_weights
from trainable.config import DataConfig, TrialConfig
from trainable.loop import fit

EPOCHS = 20
ON_GPU = torch.cuda.is_available()
SIDES = (64, 224) if ON_GPU else (64,)


def with_weights_of(path: Path, config: TrialConfig) -> TrialConfig:
    """Return `config` with its backbone's weights from the file at `path`."""
    fields = config.model_dump(mode="json")
    backbone = {**fields["backbone"], "pretrained": False, "weights": str(path)}
    return TrialConfig.model_validate({**fields, "backbone": backbone})


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a size of image."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            cached, through = both_sides(Path(folder), side, rounds)
        found = [slow / quick for slow, quick in zip(through, cached, strict=True)]
        what = f"frozen features: trials a minute over the same through the backbone, {side}x{side}"
        what += f" ({statistics.median(cached):.2f} and {statistics.median(through):.1f} s)"
        yield Row("P9", what, "50x", shown(found, 0, "x"), statistics.median(found) >= 50)


def both_sides(home: Path, side: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each trial on cached features, and those that it would take without."""
    device, cached, through = torch.device("cuda" if ON_GPU else "cpu"), [], []
    dataset, split = noise(2048, 512, side=side)
    configs = heads(rounds, EPOCHS, DataConfig(image_size=(side, side), flips="none"))
    backbone = configs[0].backbone.model_copy(update={"pretrained": False})
    source = RecordFolder(home / "weights")
    save_weights(source, copy_weights(build_backbone(backbone, 1000, (side, side), 3), {}), 1, None)
    configs = [with_weights_of(source.path / "best.safetensors", drawn) for drawn in configs]

    def trial(config: TrialConfig, number: int) -> None:
        record = RecordFolder(home / str(number))
        for _ in fit(config, dataset, split, record=record, device=device, cache_dir=home / "cache"):
            pass

    def epoch(config: TrialConfig) -> float:
        return epoch_through_the_backbone(config, dataset, split, home / "cache", device)

    next(fit(configs[0], dataset, split, device=device, cache_dir=home / "cache"))  # the features, once
    if ON_GPU:
        trial(configs[0], rounds)
    epoch(configs[0])
    for number, config in enumerate(configs):
        cached.append(seconds_of(partial(trial, config, number), device))
        through.append(EPOCHS * epoch(config))
    return cached, through


if __name__ == "__main__":
    run(rows, __doc__)

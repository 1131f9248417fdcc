"""P9: trials a minute on cached features, against the same heads trained through the backbone.

    python -m benchmarks.frozen_rate [--rounds 5]

A trial is 20 epochs of a head drawn from the space `frozen` on 2,048 + 512 images of noise, its network and
its records made anew; the features are there (`benchmarks.frozen_features` counts the pass over real images).
Through the backbone one epoch is measured, and taken 20 times. EfficientNet-Lite0 at 64x64 with the weights of
a file, for what they are does not change the time. Processor seconds of one thread; on a GPU those on the
clock, a first epoch of each side left out.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Iterator
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
SIDE = 64


def with_weights_of(path: Path, config: TrialConfig) -> TrialConfig:
    """Return `config` with its backbone's weights from the file at `path`."""
    fields = config.model_dump(mode="json")
    backbone = {**fields["backbone"], "pretrained": False, "weights": str(path)}
    return TrialConfig.model_validate({**fields, "backbone": backbone})


def rows(rounds: int) -> Iterator[Row]:
    """Yield one row."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    device, found = torch.device("cuda" if torch.cuda.is_available() else "cpu"), []
    dataset, split = noise(2048, 512, side=SIDE)
    data = DataConfig(image_size=(SIDE, SIDE), flips="none")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        configs = heads(rounds, EPOCHS, data)
        backbone = configs[0].backbone.model_copy(update={"pretrained": False})
        source = RecordFolder(home / "weights")
        save_weights(source, copy_weights(build_backbone(backbone, 1000, (SIDE, SIDE), 3), {}), 1, None)
        for number, drawn in enumerate(configs):
            config = with_weights_of(source.path / "best.safetensors", drawn)
            if number == 0:  # the features, once
                next(fit(config, dataset, split, device=device, cache_dir=home / "cache"))
                epoch_through_the_backbone(config, dataset, split, home / "cache", device)
            record = RecordFolder(home / str(number))

            def trial(config: TrialConfig = config, record: RecordFolder = record) -> None:
                for _ in fit(config, dataset, split, record=record, device=device, cache_dir=home / "cache"):
                    pass

            cached = seconds_of(trial, device)
            through = EPOCHS * epoch_through_the_backbone(config, dataset, split, home / "cache", device)
            found.append(through / cached)
    what = f"frozen features: trials a minute over the same through the backbone, {SIDE}x{SIDE}"
    yield Row("P9", what, "50x", shown(found, 0, "x"), statistics.median(found) >= 50)


if __name__ == "__main__":
    run(rows, __doc__)

"""What `ladder`, `versions` and `pretrained` share: configurations trained cell by cell, resumable.

A cell is a configuration and a seed. It trains in a process of its own (its peak memory is then its own) and
leaves its record in the output folder: a finished cell is not trained again, a killed one goes on from its
checkpoint.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import percentile_interval, smoothed_replicates
from analysis.records import RecordFolder
from search_spaces.recipe_book import load_recipe
from tailtune.commands.options import image_size as pixels
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.loop import fit

CPU_SECONDS = "cpu_seconds"
"""The file beside a cell's record that keeps them."""


@dataclass(frozen=True)
class Scale:
    """How much smaller than the sources' everything is.

    Attributes:
        data: Folder of images.
        out: Folder of the records.
        image_size: Height and width in pixels, or None for the data's own.
        epochs: Of every cell.
        batch_size: Of every cell.
        share: Of each class's training images.
        seeds: Cells of each name.
        only: Names of recipes (or cells); empty for all.
    """

    data: str
    out: Path
    image_size: tuple[int, int] | None
    epochs: int
    batch_size: int
    share: float
    seeds: int
    only: tuple[str, ...] = ()

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are asked for; all where none is.

        Raises:
            SystemExit: If one that is asked for is not among them.
        """
        names = list(names)
        unknown = [name for name in self.only if name not in names]
        if unknown:
            raise SystemExit(f"--only takes {', '.join(names)}, got {', '.join(unknown)}")
        return [name for name in names if not self.only or name in self.only]


@dataclass(frozen=True)
class Outcome:
    """What a recipe reached, over its seeds.

    Attributes:
        accuracy, macro_f1, tail_f1: Of the last epoch on validation, one value a seed.
        interval: 95 % of the mean macro-F1, images resampled.
        seconds: Wall seconds of a cell, the mean; they grow where the machine has other work.
        cpu_seconds: Processor seconds of a cell, the mean, from its first import on; they do not.
        peak_bytes: Of a cell's process (or of the GPU), the largest.
    """

    accuracy: NDArray[np.float64]
    macro_f1: NDArray[np.float64]
    tail_f1: NDArray[np.float64]
    interval: tuple[float, float]
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def parsed(
    description: str | None,
    *,
    image_size: str,
    epochs: int,
    share: float,
    arguments: Sequence[str] | None,
    seeds: int = 2,
) -> Scale:
    """Return the scale that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True, help="records; run again to go on")
    parser.add_argument("--image-size", metavar="HxW", default=image_size)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--share", type=float, default=share, help="of each class's training images")
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    given = parser.parse_args(arguments)
    return Scale(
        given.data,
        given.out,
        pixels(given.image_size),
        given.epochs,
        given.batch_size,
        given.share,
        given.seeds,
        tuple(given.only),
    )


def cell_config(name: str, scale: Scale, seed: int, **changes: Any) -> TrialConfig:
    """Return the recipe with its small network at `scale`; one split, no folds, the last epoch's weights."""
    fields = load_recipe(name, reduced=True).model_dump(mode="json")
    data = {**fields["data"], "image_size": scale.image_size, "folds": 1}
    # Nothing is chosen on validation, so the last epoch's figures are not flattered by it.
    fixed = {"epochs": scale.epochs, "batch_size": scale.batch_size, "seed": seed, "select": "last"}
    return TrialConfig.model_validate({**fields, **fixed, "data": data, **changes})


def run_recipes(
    names: Sequence[str], scale: Scale, changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Outcome]:
    """Train every cell of the recipes called `names`; return the outcome of each.

    Args:
        names: Of recipes.
        scale: See there.
        changes: Of the configuration by recipe, where a value cannot carry over to the small scale.
    """
    configs = {name: partial(cell_config, name, scale, **changes.get(name, {})) for name in names}
    return run_cells(configs, scale)


def run_cells(configs: Mapping[str, Callable[[int], TrialConfig]], scale: Scale) -> dict[str, Outcome]:
    """Train every cell that is not finished; return the outcome of each name.

    Args:
        configs: The configuration of each name, given a seed.
        scale: See there.
    """
    context = multiprocessing.get_context("spawn")
    outcomes = {}
    for name, config_of in configs.items():
        for seed in range(scale.seeds):
            config = config_of(seed)
            with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
                process.submit(train_cell, config.model_dump_json(), scale, folder(scale, name, seed)).result()
        outcomes[name] = outcome(name, scale)
        print(f"{name}: macro-F1 {outcomes[name].macro_f1.mean():.3f}", flush=True)
    return outcomes


def folder(scale: Scale, name: str, seed: int) -> Path:
    """Return the folder of a cell's record."""
    size = "own" if scale.image_size is None else "{}x{}".format(*scale.image_size)
    cell = f"seed{seed}-epochs{scale.epochs}-share{scale.share:g}-{size}-batch{scale.batch_size}"
    return scale.out / f"{name.replace(' ', '-')}-{cell}"


def train_cell(config: str, scale: Scale, path: Path) -> None:
    """Train a cell to its end, or find that it is finished."""
    trial = TrialConfig.model_validate_json(config)
    dataset = load_dataset(scale.data, data=trial.data, cache_dir=scale.out / "cache")
    whole = make_split(dataset, seed=0, validation_fraction=trial.data.validation_fraction)
    split = thinned(dataset, whole, scale.share)
    record, before = RecordFolder(path), cpu_seconds(path)
    known = len(record.epochs())
    for report in fit(trial, dataset, split, record=record, cache_dir=scale.out / "cache"):
        if report.epoch > known:
            record.write_bytes(CPU_SECONDS, str(before + time.process_time()).encode())


def cpu_seconds(path: Path) -> float:
    """Return the processor seconds that a cell has taken, in all its attempts."""
    file = path / CPU_SECONDS
    return float(file.read_text(encoding="utf-8")) if file.is_file() else 0.0


def thinned(dataset: ImageDataset, split: Split, share: float) -> Split:
    """Return `split` with a share of each class's training images, at least one."""
    rng = np.random.default_rng(0)
    kept = []
    for label in range(dataset.num_classes):
        own = split.train[dataset.labels[split.train] == label]
        kept.append(rng.permutation(own)[: max(1, round(share * len(own)))] if len(own) else own)
    return Split(np.sort(np.concatenate(kept)), split.val, split.test)


def outcome(name: str, scale: Scale) -> Outcome:
    """Return what the finished cells of a recipe reached."""
    records = [RecordFolder(folder(scale, name, seed)) for seed in range(scale.seeds)]
    rows = [record.epochs()[-1] for record in records]
    stored = [record.predictions() for record in records]
    summaries = [record.summary for record in records]
    assert all(stored)
    assert all(summaries)
    found = [predictions for predictions in stored if predictions is not None]
    costs = [summary.cost for summary in summaries if summary is not None]
    classes = np.stack([predictions.classes for predictions in found])
    draws = smoothed_replicates(found[0].targets, classes, found[0].num_classes, replicates=1000).mean(axis=0)
    values = np.array([row.macro_f1 for row in rows])
    interval = percentile_interval(float(values.mean()), draws, 0.95)
    return Outcome(
        accuracy=np.array([row.accuracy for row in rows]),
        macro_f1=values,
        tail_f1=np.array([np.nan if row.tail_f1 is None else row.tail_f1 for row in rows]),
        interval=(interval.low, interval.high),
        seconds=float(np.mean([cost.wall_seconds or 0.0 for cost in costs])),
        cpu_seconds=float(np.mean([cpu_seconds(record.path) for record in records])),
        peak_bytes=max(int(cost.peak_device_bytes or cost.peak_host_bytes or 0) for cost in costs),
    )


def spread(values: NDArray[np.float64]) -> str:
    """Return the mean and, in brackets, the lowest and the highest seed's value."""
    return f"{values.mean():.3f} ({values.min():.3f} … {values.max():.3f})"


def described(scale: Scale) -> str:
    """Return one line that says how small the comparison is."""
    size = "the data's own size" if scale.image_size is None else "{}x{} pixels".format(*scale.image_size)
    return (
        f"{scale.epochs} epochs of {scale.share:.0%} of the training images at {size}, batches of "
        f"{scale.batch_size}, {scale.seeds} seeds."
    )


__all__ = ["Outcome", "Scale", "described", "parsed", "run_cells", "run_recipes", "spread"]

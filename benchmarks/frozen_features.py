"""P9: heads on cached features, against the same head through the backbone, and a network from scratch.

    python -m benchmarks.frozen_features DATA --out DIR [--image-size 96x96] [--heads 24] [--epochs 20]

On a search's split of DATA: the features of every image once; heads drawn from the space `frozen`; one epoch
of a head whose features are computed anew, batch by batch; and resnet10t from random weights, small images, for
as much processor time as the features and all heads took together. Times are processor seconds (of one thread,
with OMP_NUM_THREADS=1), which other work on the machine changes less. What is in DIR is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import torch

from analysis.intervals import interval_of
from analysis.records import Predictions, RecordFolder
from search_spaces.space import load_space
from tailtune.commands.options import image_size
from trainable.backbones.taps import Taps
from trainable.config import DataConfig, TrialConfig
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.evaluate import predict_logits
from trainable.frozen_features import FrozenNetwork
from trainable.loop import fit
from trainable.state import TrialState

CPU = torch.device("cpu")
SCRATCH: dict[str, Any] = {
    "batch_size": 64,
    "backbone": {"name": "resnet10t", "small_stem_up_to": 32},
    "loss": {"name": "label_smoothing", "epsilon": 0.05},
    "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4, "nesterov": True},
    "schedule": {"name": "one_cycle", "pct_start": 0.25, "final_div_factor": 1000.0},
    "augment": [{"name": "flip"}, {"name": "crop", "padding": 3}],
}
"""The space `tiny`, pinned at the middle of its ranges."""


class Results:
    """What has been measured, by name, in one JSON file.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return what is known under `name`; measure it where nothing is."""
        if name not in self.known:
            self.known[name] = measure()
            self.path.write_text(json.dumps(self.known, indent=1) + "\n")
            print(name, self.known[name], flush=True)
        found: dict[str, float] = self.known[name]
        return found


def seconds_of(work: Callable[[], object], device: torch.device = CPU) -> float:
    """Return the processor seconds of `work`; for a GPU, those on the clock until it is done."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def scored(predictions: Predictions) -> dict[str, float]:
    """Return macro-F1 with the ends of its 95 % interval."""
    found = interval_of(predictions.targets, predictions.classes, predictions.num_classes)
    return {"macro_f1": found.value, "low": found.low, "high": found.high}


def trained(
    config: TrialConfig, dataset: ImageDataset, split: Split, folder: Path, cache: Path
) -> dict[str, float]:
    """Train one trial; return its score and its processor seconds, those of a killed attempt reckoned in."""
    record = RecordFolder(folder)
    before = len(record.epochs())

    def run() -> None:
        for report in fit(config, dataset, split, record=record, device=CPU, cache_dir=cache):
            assert report.diverged is None, report.diverged

    seconds = seconds_of(run)
    predictions = record.predictions()
    assert predictions is not None
    return {**scored(predictions), "seconds": seconds * config.epochs / max(1, config.epochs - before)}


def epoch_through_the_backbone(
    config: TrialConfig, dataset: ImageDataset, split: Split, cache: Path, device: torch.device = CPU
) -> float:
    """Return the seconds of one epoch of a head whose features are computed for each batch."""
    trial = TrialState(config, dataset, split, device, None, cache)
    head = trial.model
    assert isinstance(head, FrozenNetwork)
    network, taps = head.network.eval(), Taps(head.network, pooled=True)
    statistics = (trial.batches.normalisation.mean, trial.batches.normalisation.std)
    images = Batches(
        dataset, split.train, config=config, device=device, precision=trial.precision, statistics=statistics
    )

    def epoch() -> None:
        losses, positions = trial.loss_meter(), trial.begin_epoch(0)
        for step, batch in enumerate(images.train(positions, 0)):
            trial.set_lr(0, step)
            with torch.no_grad(), taps.reading() as catch:
                network(batch.images)
            assert catch.pooled is not None
            shown = batch.mixed._replace(images=catch.pooled[:, :, None, None])
            losses.add(trial.stepper(shown), batch.positions)
            trial.averager.after_step()
        predict_logits(network, images.evaluate(split.val), trial.precision, device)
        losses.mean()

    return seconds_of(epoch, device)


def heads(count: int, epochs: int, data: DataConfig) -> list[TrialConfig]:
    """Return configurations drawn at random from the space `frozen`."""
    space = load_space("frozen")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base = TrialConfig(epochs=epochs, data=data)
    return [space.suggest(study.ask(), base) for _ in range(count)]


def split_of(dataset: ImageDataset) -> Split:
    """Return the split of a search with seed 0: it does not depend on the images' size."""
    return make_split(dataset, seed=0)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--image-size", default="96x96")
    parser.add_argument("--scratch-size", default="48x48")
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    cache = given.out / "cache"
    results = Results(given.out / "results.json")

    data = DataConfig(image_size=image_size(given.image_size), flips="none")
    dataset = load_dataset(given.data, data=data, cache_dir=cache)
    split = split_of(dataset)
    configs = heads(given.heads, given.epochs, data)

    def state() -> TrialState:
        return TrialState(configs[0], dataset, split, CPU, None, cache)

    first = results.get("first trial's state, features computed", lambda: {"seconds": seconds_of(state)})
    again = results.get("a later trial's state", lambda: {"seconds": seconds_of(state)})
    runs = [
        results.get(
            f"head {at}",
            lambda at=at, config=config: trained(config, dataset, split, given.out / f"head-{at}", cache),
        )
        for at, config in enumerate(configs)
    ]
    through = results.get(
        "one epoch through the backbone",
        lambda: {"seconds": epoch_through_the_backbone(configs[0], dataset, split, cache)},
    )
    features = first["seconds"] - again["seconds"]
    all_heads = sum(run["seconds"] for run in runs)
    scratch = from_scratch(given, results, features + all_heads, cache)
    print(table(features, runs, through["seconds"] * given.epochs, scratch))


def from_scratch(given: argparse.Namespace, results: Results, seconds: float, cache: Path) -> dict[str, float]:
    """Train a small network for `seconds`: as many epochs as fit, by the time of two."""
    data = DataConfig(image_size=image_size(given.scratch_size), flips="dihedral")
    dataset = load_dataset(given.data, data=data, cache_dir=cache)
    split = split_of(dataset)

    def config(epochs: int) -> TrialConfig:
        return TrialConfig.model_validate({**SCRATCH, "epochs": epochs, "data": data})

    two = results.get(
        "two epochs from scratch",
        lambda: trained(config(2), dataset, split, given.out / "two-epochs", cache),
    )
    epochs = max(2, int(seconds / (two["seconds"] / 2)))
    return {
        **results.get(
            "from scratch", lambda: trained(config(epochs), dataset, split, given.out / "scratch", cache)
        ),
        "epochs": epochs,
    }


def table(
    features: float, runs: list[dict[str, float]], through_seconds: float, scratch: dict[str, float]
) -> str:
    """Return the Markdown table."""
    best = max(runs, key=lambda run: run["macro_f1"])
    mean = sum(run["seconds"] for run in runs) / len(runs)
    with_pass = len(runs) * 60 / (features + mean * len(runs))
    shown = "{macro_f1:.3f} [{low:.3f}, {high:.3f}]"
    lines = [
        "| what | processor seconds | trials a minute | macro-F1 |",
        "|---|---|---|---|",
        f"| features of all images, once | {features:.0f} | | |",
        f"| a head on them, of {len(runs)} | {mean:.1f} | {60 / mean:.1f} | best: {shown.format(**best)} |",
        f"| the first head, unchosen | {runs[0]['seconds']:.1f} | | {shown.format(**runs[0])} |",
        f"| all heads and the features | {features + mean * len(runs):.0f} | {with_pass:.2f} | |",
        f"| the same head through the backbone | {through_seconds:.0f} | {60 / through_seconds:.3f} | |",
        f"| from scratch, {scratch['epochs']:.0f} epochs | {scratch['seconds']:.0f} | | "
        f"{shown.format(**scratch)} |",
        "",
        f"P9: {through_seconds / mean:.0f} times as many trials a minute on cached features as through the "
        f"backbone; {through_seconds * with_pass / 60:.1f} times with the pass counted.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

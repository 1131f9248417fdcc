"""Do the long-tail losses find more of the rare classes than cross-entropy? CIFAR-100-LT, several seeds.

    python -m benchmarks.long_tail_losses FOLDER --out DIR [--imbalance-ratio 100] [--epochs 20] [--seeds 3]

FOLDER has `train/<class>/` with enough images of each class and a balanced `test/<class>/`. Class i (by name)
keeps its first int(500 * ratio ** (-i / 99)) training files by name: the profile of Cui et al. 2019. For the
losses nothing is chosen on the test images: network, schedule and parameters are fixed; the last epoch counts.
A trial that is finished is not trained again, one that was killed goes on from its checkpoint; each leaves its
record in DIR and a line in DIR/results.jsonl. Intervals: images are resampled (paired between
losses) and seeds are drawn with replacement (paired as well). The rows "then ..." correct cross-entropy's
logits after training; their strength is fitted out of fold on the test images, each fifth by the other four.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from analysis.intervals import smoothed_replicates
from analysis.metrics import TAIL_BELOW, ClassCounts, Floats, Metrics, macro_f1
from analysis.records import Predictions, RecordFolder
from trainable.config import DataConfig, TrialConfig
from trainable.corrector import correct
from trainable.data.dataset import ImageDataset, Split
from trainable.data.listing import TEST, TRAIN
from trainable.data.load import load_dataset
from trainable.data.long_tail import exponential_counts
from trainable.loop import fit
from trainable.posthoc import POSTHOC, Classifier, FittedCorrection

DRW = {"name": "effective_number", "defer": 0.8}
LOSSES: Mapping[str, Mapping[str, Any]] = {
    "cross_entropy": {"loss": "cross_entropy"},
    "balanced_softmax": {"loss": "balanced_softmax"},
    "logit_adjustment (tau 1.5)": {"loss": {"name": "logit_adjustment", "tau": 1.5}},
    "ldam + drw": {"loss": "ldam", "class_weights": DRW},
}
FIXED: Mapping[str, Any] = {
    "batch_size": 64,
    "select": "last",
    "backbone": {"name": "test_resnet", "stem": "original"},
    "optimizer": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4},
    "schedule": {"name": "cosine", "warmup_epochs": 1.0},
    "augment": [{"name": "flip"}, {"name": "crop", "padding": 4}],
    "training": {"precision": "bf16"},
}
"""A 0.4 M-parameter ResNet of timm's: small enough for a CPU, the same for every loss."""


def long_tailed(dataset: ImageDataset, imbalance_ratio: float) -> Split:
    """Return the first images of each class, by name, to train on, and the test images to judge by."""
    wanted = exponential_counts(500, imbalance_ratio, dataset.num_classes)
    train = np.flatnonzero(dataset.given_split == TRAIN)
    kept = []
    for label, count in enumerate(wanted.tolist()):
        own = sorted(train[dataset.labels[train] == label].tolist(), key=lambda i: dataset.paths[i])
        assert len(own) >= count, f"{dataset.class_names[label]} has {len(own)} images, {count} are needed"
        kept += own[:count]
    test = np.flatnonzero(dataset.given_split == TEST)
    return Split(np.sort(np.array(kept, dtype=np.int64)), test, np.zeros(0, dtype=np.int64))


def trained(
    name: str, seed: int, epochs: int, dataset: ImageDataset, split: Split, out: Path
) -> tuple[Predictions, bool]:
    """Train one loss with one seed, unless that has been done; return its predictions, and whether it was."""
    record = RecordFolder(out / "records" / f"{name.replace(' ', '_')}-{seed}")
    done = record.summary is not None and record.summary.finished
    if not done:
        config = TrialConfig.model_validate({**FIXED, **LOSSES[name], "seed": seed, "epochs": epochs})
        for report in fit(config, dataset, split, record=record):
            assert report.diverged is None, f"{name}, seed {seed}: {report.diverged}"
            if report.final:
                print(
                    f"{name}, seed {seed}: {report.macro_f1:.4f} {report.cost['wall_seconds']:.0f} s",
                    flush=True,
                )
    predictions = record.predictions()
    assert predictions is not None
    return predictions, done


def corrected_afterwards(
    posthoc: str, found: list[Predictions], dataset: ImageDataset, counts: NDArray[np.int64], out: Path
) -> list[Predictions]:
    """Return cross-entropy's predictions of each seed, corrected by `posthoc`."""
    config = POSTHOC.parse(posthoc)
    assert isinstance(config, FittedCorrection)
    corrected = []
    for seed, raw in enumerate(found):
        weights = load_file(out / "records" / f"cross_entropy-{seed}" / "best.safetensors")
        norms = np.linalg.norm(weights["fc.weight"].astype(np.float64), axis=1)
        prior = counts / counts.sum()
        facts = Classifier(norms, weights["fc.bias"].astype(np.float64), prior, 0.5 / counts.sum())
        fitted = correct(config, facts, raw.logits, dataset, raw.indices, seed=0)
        print(f"{posthoc}, seed {seed}: strength {fitted.tau:g} on all images", flush=True)
        corrected.append(dataclasses.replace(raw, logits=fitted.logits(raw.logits)))
    return corrected


def noted(name: str, seed: int, predictions: Predictions, counts: NDArray[np.int64], out: Path) -> None:
    """Append the trial's scores to results.jsonl."""
    found = Metrics.from_confusion(predictions.confusion(), counts)
    keys = ("macro_f1", "accuracy", "head_f1", "medium_f1", "tail_f1")
    line = {"loss": name, "seed": seed, **{key: getattr(found, key) for key in keys}}
    with open(out / "results.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def group_f1(counts: ClassCounts, group: NDArray[np.bool_]) -> Floats:
    """Return the mean F1 of the classes in `group`, `(R,)`."""
    return np.asarray(np.nanmean(counts.f1()[..., group], axis=-1))


def replicated(
    found: Mapping[str, list[Predictions]], group: NDArray[np.bool_] | None
) -> dict[str, NDArray[np.float64]]:
    """Return for each loss the value in column 0 and R draws of its mean over seeds, paired between losses."""
    seeds = len(next(iter(found.values())))
    every = [predictions for runs in found.values() for predictions in runs]
    score = macro_f1 if group is None else partial(group_f1, group=group)
    draws = smoothed_replicates(
        every[0].targets,
        np.stack([p.classes for p in every]),
        every[0].num_classes,
        score=score,
        replicates=1000,
    ).reshape(len(found), seeds, -1)
    values = np.array([float(score(ClassCounts.of(p.confusion()))) for p in every]).reshape(len(found), seeds)
    chosen = np.random.default_rng(0).integers(seeds, size=(seeds, draws.shape[-1]))
    mixed = np.take_along_axis(draws, chosen[None], axis=1).mean(axis=1)
    return {
        name: np.concatenate([[values[i].mean()], mixed[i], [values[i].std(ddof=1) if seeds > 1 else 0.0]])
        for i, name in enumerate(found)
    }


def table(found: Mapping[str, list[Predictions]], class_counts: NDArray[np.int64]) -> str:
    """Return the Markdown table: macro-F1, tail-F1 and its difference from cross-entropy's."""
    tail = replicated(found, class_counts < TAIL_BELOW)
    whole = replicated(found, None)
    lines = [
        "| loss | macro-F1 (± of seeds) | tail-F1 (± of seeds) | tail-F1, 95 % | tail-F1 - CE's, 95 % |",
        "|---|---|---|---|---|",
    ]
    base = tail["cross_entropy"]
    for name in found:
        own, beside = tail[name], whole[name]
        ahead = (
            "" if name == "cross_entropy" else f"{own[0] - base[0]:+.3f} {_ends(own[1:-1] - base[1:-1], '+')}"
        )
        lines.append(
            f"| {name} | {beside[0]:.3f} ± {beside[-1]:.3f} | {own[0]:.3f} ± {own[-1]:.3f} "
            f"| {_ends(own[1:-1])} | {ahead} |"
        )
    return "\n".join(lines)


def _ends(draws: NDArray[np.float64], sign: str = "") -> str:
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imbalance-ratio", type=float, default=100.0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    dataset = load_dataset(options.data, data=DataConfig(), cache_dir=options.out / "cache")
    split = long_tailed(dataset, options.imbalance_ratio)
    counts = dataset.class_counts(split.train)
    print(f"{len(split.train)} training images, {counts.max()} to {counts.min()} a class", flush=True)
    found: dict[str, list[Predictions]] = {}
    for seed in range(options.seeds):
        for name in LOSSES:
            predictions, known = trained(name, seed, options.epochs, dataset, split, options.out)
            found.setdefault(name, []).append(predictions)
            if not known:
                noted(name, seed, predictions, counts, options.out)
    for posthoc in ("logit_adjustment", "tau_norm"):
        found[f"cross_entropy, then {posthoc}"] = corrected_afterwards(
            posthoc, found["cross_entropy"], dataset, counts, options.out
        )
    print(table(found, counts))


if __name__ == "__main__":
    main()

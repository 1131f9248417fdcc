"""P7, the search race: best test macro-F1 over wall time, the same space, split, epoch cap and seconds for all.

    python -m benchmarks.race DATA --out DIR --seconds 60 [--space tiny] [--epochs 9] [--image-size HxW]
                              [--flips none] [--test-fraction 0.2] [--seeds 5] [--first-seed 0]
                              [--only ARM …] [--table]

Arms: `tailtune`; `random` search, `optuna` (TPE, median pruner, one process) and `ray` (OptunaSearch, ASHA),
each with the sources' pipeline; `ray-ours`, stock Ray around our trainable. An arm and a seed that are done
are not run again, so the race can be run in slices; `--table` only shows what there is. The test images are
looked at when an arm has ended: of each trial that was, when it ended, the best on validation. Time counts
from the call of the search (imports apart), Ray's start included. "Over the time" is that score's mean over
all seconds of the budget, 0 before a first trial has ended: what a search has that may be ended at any moment.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.metrics import Metrics
from analysis.records import Predictions
from benchmarks.race_arms import ARMS, BASELINES, CONFIG, WEIGHTS, Course, Journal
from benchmarks.sources_pipeline import best_workers, write_files
from tailtune.commands.options import image_size as pixels
from tailtune.planning import _FLIPS_OF
from trainable.backbones import build_backbone, input_statistics
from trainable.checkpoint import load_weights
from trainable.config import DataConfig, TrialConfig
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset, Split
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.evaluate import predict_logits
from trainable.precision import Precision

RESULT = "result.json"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--image-size", metavar="HxW")
    parser.add_argument("--flips", help="instead of what tailtune takes for DATA")
    parser.add_argument("--test-fraction", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run-one", nargs=2, metavar=("ARM", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def course_of(given: argparse.Namespace) -> tuple[Course, ImageDataset]:
    """Return what the arms have in common, and the images; what can be prepared once is."""
    flips = given.flips or _FLIPS_OF.get(given.data, "h")
    data = DataConfig.model_validate({"image_size": pixels(given.image_size), "flips": flips})
    config = TrialConfig(epochs=given.epochs, data=data)
    cache = given.out / "cache"
    dataset = load_dataset(given.data, data=data, cache_dir=cache)
    files = write_files(dataset, given.out / "files")
    chosen = given.out / "workers.json"
    if not chosen.exists():
        split, found = make_split(dataset, seed=0, test_fraction=given.test_fraction), []
        typical = TrialConfig.model_validate(
            {**config.model_dump(), "backbone": "resnet10t", "augment": ("flip", "crop")}
        )
        for threads in (torch.get_num_threads(), 1):
            torch.set_num_threads(threads)
            found.append(best_workers(typical, dataset, split, files))
        chosen.write_text(json.dumps(found), encoding="utf-8")
    solo, shared = json.loads(chosen.read_text(encoding="utf-8"))
    course = Course(
        given.data, config, given.space, given.test_fraction, given.seconds, files, (solo, shared), cache
    )
    return course, dataset


def run_one(given: argparse.Namespace, arm: str, seed: int) -> None:
    """Run one arm with one seed in this process, then look at its incumbents' test images."""
    course, dataset = course_of(given)
    split = make_split(dataset, seed=seed, test_fraction=course.test_fraction)
    folder = given.out / f"{arm}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journal = Journal(folder, course.seconds)
    ARMS[arm](course, dataset, split, journal, seed)
    journal.save()
    curve = [
        (line["seconds"], line["value"], tested(folder / "incumbents" / line["incumbent"], dataset, split))
        for line in journal.lines
        if "incumbent" in line
    ]
    (folder / RESULT).write_text(
        json.dumps({"arm": arm, "seed": seed, "trials": len(journal.lines), "curve": curve}), encoding="utf-8"
    )
    for leftover in ("incumbents", "trials", "home", "tune"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def tested(kept: Path, dataset: ImageDataset, split: Split) -> float:
    """Return macro-F1 on the test images of the weights in `kept`, in fp32, for every arm alike."""
    config = TrialConfig.from_file(kept / CONFIG)
    device, precision = torch.device("cpu"), Precision("fp32", channels_last=True)
    batches = Batches(
        dataset,
        split.train,
        config=config,
        device=device,
        precision=precision,
        statistics=input_statistics(config.backbone),
    )
    model = build_backbone(
        config.backbone, dataset.num_classes, batches.image_size, batches.channels, load_trained=False
    )
    load_weights(kept / WEIGHTS, model)
    logits = predict_logits(model, batches.evaluate(split.test), precision, device)
    predictions = Predictions(logits, dataset.labels[split.test], split.test, 0)
    return Metrics.from_confusion(predictions.confusion()).macro_f1


def table(out: Path, seconds: float) -> str:
    """Return the Markdown tables: each arm's end, and tailtune against each of the others."""
    found: dict[str, dict[int, Any]] = {}
    for path in sorted(out.glob(f"*/{RESULT}")):
        one = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(one["arm"], {})[one["seed"]] = one
    lines = [
        "| arm | seeds | trials (median) | test macro-F1 at the end, median (all) |",
        "|---|---:|---:|---|",
    ]
    for arm in [arm for arm in ARMS if arm in found]:
        runs = [found[arm][seed] for seed in sorted(found[arm])]
        ends = [end_of(run) for run in runs]
        trials = statistics.median(run["trials"] for run in runs)
        every = ", ".join(f"{end:.3f}" for end in ends)
        lines.append(f"| {arm} | {len(runs)} | {trials:g} | {statistics.median(ends):.3f} ({every}) |")
    ours = found.get("tailtune", {})
    lines += ["", *against(found, ours, seconds)]
    return "\n".join(lines)


def against(found: dict[str, dict[int, Any]], ours: dict[int, Any], seconds: float) -> list[str]:
    """Return the table of tailtune against each arm, and against the best baseline of each seed."""
    lines = [
        "| tailtune against | seeds | its share of their time to their final score, median (all) "
        "| ahead over the time, median (all) | ahead at the end, median (all) |",
        "|---|---:|---|---|---|",
    ]
    rivals = {arm: runs for arm, runs in found.items() if arm != "tailtune"}
    seeds = sorted(set(ours).intersection(*(found.get(arm, {}) for arm in BASELINES)))
    if seeds:
        best = {s: max((found[arm][s] for arm in BASELINES), key=end_of) for s in seeds}
        rivals = {"the best of random, optuna, ray": best, **rivals}
    for name, runs in rivals.items():
        both = sorted(set(runs) & set(ours))
        if not both:
            continue
        shares, over, ahead = [], [], []
        for seed in both:
            goal = end_of(runs[seed])
            theirs = first_time(runs[seed], goal)
            shares.append(first_time(ours[seed], goal) / theirs if theirs > 0 else 0.0)
            over.append(average(ours[seed], seconds) - average(runs[seed], seconds))
            ahead.append(end_of(ours[seed]) - goal)
        middle, *each_share = (
            f"{share:.2f}" if math.isfinite(share) else "never"
            for share in (statistics.median(shares), *shares)
        )
        gaps = [
            f"{statistics.median(each):+.3f} ({', '.join(f'{gap:+.3f}' for gap in each)})"
            for each in (over, ahead)
        ]
        lines.append(f"| {name} | {len(both)} | {middle} ({', '.join(each_share)}) | {' | '.join(gaps)} |")
    return lines


def end_of(run: dict[str, Any]) -> float:
    """Return the test score of the last incumbent, 0 where no trial ended in time."""
    return float(run["curve"][-1][2]) if run["curve"] else 0.0


def average(run: dict[str, Any], seconds: float) -> float:
    """Return the incumbent's test score on average over the whole budget, 0 while there is none."""
    until = [at for at, _, _ in run["curve"][1:]] + [seconds]
    scores = zip(run["curve"], until, strict=False)
    return sum(test * (end - begun) for (begun, _, test), end in scores) / seconds


def first_time(run: dict[str, Any], goal: float) -> float:
    """Return the seconds after which the incumbent's test score was at least `goal`, or infinity."""
    times = np.array([seconds for seconds, _, test in run["curve"] if test >= goal])
    return float(times.min()) if len(times) else math.inf


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, each arm and seed in a process of its own, and print the tables."""
    given = parsed(arguments)
    given.out = given.out.absolute()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.run_one:
        run_one(given, given.run_one[0], int(given.run_one[1]))
        return
    if not given.table:
        course_of(given)
        command = [sys.executable, "-m", "benchmarks.race", *(arguments or sys.argv[1:])]
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for arm in given.only:
                if not (given.out / f"{arm}-{seed}" / RESULT).exists():
                    subprocess.run([*command, "--run-one", arm, str(seed)], check=True)
                    print(f"{arm}, seed {seed}: done", flush=True)
    print(table(given.out, given.seconds))


if __name__ == "__main__":
    main()

"""Where a search begins: whole trials at the centre of a space against trials drawn from it at random.

    python -m benchmarks.first_trial DATA [--space tiny] [--epochs 9] [--image-size HxW] [--flips none|h]
                                     [--draws 40] [--seeds 4] [--swap family=a,b …] [--keep FILE]
                                     [--split-seed 100] [--test-fraction 0.0]

Each draw is trained once, the centre with several seeds, a trial on each core at a time; nothing is stopped
early. Shown is the share of the draws that the centre beats on the validation images. With
`--swap optimizer=sgd,adamw` it says as well what the centre would be with another member in front. `--keep`
appends each trial's parameters, its curve and what its best epoch has on the test images, as soon as it is
done, to a file for `benchmarks.search_replay`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from analysis.records import RecordFolder
from benchmarks.race import tested
from benchmarks.race_arms import WEIGHTS
from benchmarks.table import heading
from search_spaces.space import load_space
from tailtune.centre import Centre
from tailtune.commands.options import image_size as pixels
from trainable.config import DataConfig, TrialConfig
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.host_memory import keep_freed_memory
from trainable.loop import fit

DRAW_SEED = 777


@dataclass(frozen=True)
class Job:
    """A configuration to be trained, and what it stands for."""

    name: str
    config: TrialConfig
    parameters: dict[str, Any]


class Swapped(Centre):
    """The centre with another member of some families."""

    def __init__(self, instead: dict[str, str]) -> None:
        self._instead = instead

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Return the member that was asked for, or the centre."""
        found = super().sample_independent(study, trial, param_name, param_distribution)
        return self._instead.get(param_name.split("[")[0], found)


@dataclass(frozen=True)
class Course:
    """What all trials have in common.

    Attributes:
        data: As `tailtune search` takes it.
        split_seed: Of the validation images.
        test_fraction: Of the images, where the data have no test split.
        keep: Whether the test images are looked at.
        cache_dir: Of decoded images and timings.
    """

    data: str
    split_seed: int
    test_fraction: float
    keep: bool
    cache_dir: Path


def trained(course: Course, job: Job) -> tuple[list[float], float | None]:
    """Train a whole trial; return each epoch's macro-F1 on validation, and the best one's on test."""
    torch.set_num_threads(1)
    keep_freed_memory()
    dataset = load_dataset(course.data, data=job.config.data, cache_dir=course.cache_dir)
    split = make_split(dataset, seed=course.split_seed, test_fraction=course.test_fraction)
    with tempfile.TemporaryDirectory() as folder:
        record = RecordFolder(Path(folder) / "0")
        record.write_config(job.config.to_yaml())
        reports = fit(job.config, dataset, split, record=record, cache_dir=course.cache_dir)
        curve = [report.macro_f1 for report in reports]
        looked_at = course.keep and len(split.test) > 0 and (record.path / WEIGHTS).exists()  # diverged: none
        return curve, tested(record.path, dataset, split) if looked_at else None


def jobs(given: argparse.Namespace, base: TrialConfig) -> Iterator[Job]:
    """Yield the centres, then the draws."""
    space = load_space(given.space)
    centres = {"centre": Centre()}
    for swap in given.swap:
        family, _, names = swap.partition("=")
        for name in names.split(","):
            centres[f"{family} {name}"] = Swapped({f"{family}.name": name})
    for name, sampler in centres.items():
        trial = optuna.create_study(sampler=sampler).ask()
        config = space.suggest(trial, base)
        for seed in range(given.seeds):
            yield Job(name, config.model_copy(update={"seed": seed}), trial.params)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(DRAW_SEED))
    for _ in range(given.draws):
        trial = study.ask()
        yield Job("draw", space.suggest(trial, base), trial.params)


def main() -> None:
    """Print a line for the draws and one for each centre."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--image-size", metavar="HxW")
    parser.add_argument("--flips", default="none")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--split-seed", type=int, default=100)
    parser.add_argument("--test-fraction", type=float, default=0.0)
    parser.add_argument("--swap", nargs="*", default=[], metavar="FAMILY=A,B")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if Path(given.data).exists():
        given.data = str(Path(given.data).absolute())
    base = TrialConfig(
        epochs=given.epochs, data=DataConfig(image_size=pixels(given.image_size), flips=given.flips)
    )
    wanted = list(jobs(given, base))
    spawn = multiprocessing.get_context("spawn")
    curves = []
    with tempfile.TemporaryDirectory() as cache, ProcessPoolExecutor(mp_context=spawn) as pool:
        load_dataset(given.data, data=base.data, cache_dir=Path(cache))  # decoded once
        course = Course(given.data, given.split_seed, given.test_fraction, given.keep is not None, Path(cache))
        for job, (curve, test) in zip(wanted, pool.map(partial(trained, course), wanted), strict=True):
            curves.append(curve)
            if given.keep is not None:
                line = {"name": job.name, "parameters": job.parameters, "curve": curve, "test": test}
                with given.keep.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
    found = [max(each) for each in curves]
    draws = sorted(f for job, f in zip(wanted, found, strict=True) if job.name == "draw")
    print(heading("python -m benchmarks.first_trial").partition("\n")[0], end="\n\n")
    print(
        f"{len(draws)} draws: median {statistics.median(draws):.3f}, {draws[0]:.3f} to {draws[-1]:.3f}",
        end="\n\n",
    )
    print("| start | median macro-F1 (every seed) | beats so many of the draws |\n|---|---|---|")
    for name in dict.fromkeys(job.name for job in wanted if job.name != "draw"):
        runs = [f for job, f in zip(wanted, found, strict=True) if job.name == name]
        middle = statistics.median(runs)
        every = ", ".join(f"{run:.3f}" for run in runs)
        beaten = sum(middle > draw for draw in draws) / len(draws)
        print(f"| {name} | {middle:.3f} ({every}) | {beaten:.0%} |")


if __name__ == "__main__":
    main()

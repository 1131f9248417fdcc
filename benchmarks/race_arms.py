"""The arms of the search race: ways of spending the same seconds on the same space, split and epoch cap.

Each arm tells a `Journal` of every trial that ends. Stock arms are set up as their documentation shows them.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch

from analysis.records import RecordFolder, TrialState
from benchmarks.sources_pipeline import SourcesTrial, seed_of
from search_spaces.space import load_space
from tailtune.launch import grace
from tailtune.progress import Watcher
from tailtune.study_spec import BudgetSpec
from trainable.checkpoint import copy_weights, save_weights
from trainable.config import DataConfig, TrialConfig
from trainable.data.dataset import ImageDataset, Split

CONCURRENT = 2
CONFIG, WEIGHTS = "config.yaml", "best.safetensors"


@dataclass(frozen=True)
class Course:
    """What every arm has in common.

    Attributes:
        data: As `tailtune search` takes it.
        config: What the run decides of every configuration.
        space: A name or file.
        test_fraction: Of the images, where the data have no test split.
        seconds: Wall-clock budget.
        files: The images as PNG files, for the sources' pipeline.
        workers: Of its DataLoader, with all cores for one trial, and with one core a trial.
        cache_dir: Of decoded images and timings.
    """

    data: str
    config: TrialConfig
    space: str
    test_fraction: float
    seconds: float
    files: Path
    workers: tuple[int, int]
    cache_dir: Path

    @property
    def geometry(self) -> DataConfig:
        """How the images are shown."""
        return self.config.data


class Journal:
    """Which trial was the best on validation, from when on; keeps those trials' weights.

    Args:
        folder: Of this arm and seed.
        seconds: Trials that end later do not count.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self._budget = folder, seconds
        self._start, self._best = time.monotonic(), -1.0
        self.lines: list[dict[str, Any]] = []

    @property
    def left(self) -> float:
        """Seconds that remain."""
        return self._budget - (time.monotonic() - self._start)

    def ended(self, value: float | None, record: Path) -> None:
        """Take note of a trial that ended with `value` on validation; its record holds its weights."""
        seconds = time.monotonic() - self._start
        if seconds > self._budget:
            return
        line: dict[str, Any] = {"seconds": seconds, "value": value}
        if value is not None and value > self._best and (record / WEIGHTS).exists():
            self._best = value
            kept = self.folder / "incumbents" / f"{len(self.lines):05d}"
            kept.mkdir(parents=True)
            for name in (CONFIG, WEIGHTS):
                shutil.copy(record / name, kept / name)
            line["incumbent"] = kept.name
        self.lines.append(line)

    def save(self) -> None:
        """Write the lines."""
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        (self.folder / "ended.jsonl").write_text(text, encoding="utf-8")


class JournalWatcher(Watcher):
    """Tells the journal of tailtune's own trials."""

    def __init__(self, journal: Journal, trials: Path) -> None:
        super().__init__()
        self._journal, self._trials = journal, trials

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Pass it on."""
        super().trial_ended(number, state, value, reason)
        self._journal.ended(value, self._trials / str(number))


def tailtune_arm(course: Course, dataset: ImageDataset, split: Split, journal: Journal, seed: int) -> None:
    """`tailtune search`, as it is."""
    import tailtune

    geometry, home = course.geometry, journal.folder / "home"
    tailtune.search(
        course.data,
        study="race",
        space=course.space,
        trials=100_000,
        epochs=course.config.epochs,
        image_size=geometry.image_size,
        flips=geometry.flips,
        test_fraction=course.test_fraction,
        concurrent=CONCURRENT,
        time_budget=course.seconds,
        seed=seed,
        home=home,
        watcher=JournalWatcher(journal, home / "race" / "trials"),
    )


def random_arm(course: Course, dataset: ImageDataset, split: Split, journal: Journal, seed: int) -> None:
    """Random search in one process, nothing stopped early, with the sources' pipeline."""
    sampler = optuna.samplers.RandomSampler(seed=seed)
    _one_process(course, dataset, split, journal, seed, sampler, optuna.pruners.NopPruner())


def optuna_arm(course: Course, dataset: ImageDataset, split: Split, journal: Journal, seed: int) -> None:
    """Optuna's defaults, TPE and the median pruner, in one process, with the sources' pipeline."""
    sampler = optuna.samplers.TPESampler(seed=seed)
    _one_process(course, dataset, split, journal, seed, sampler, optuna.pruners.MedianPruner())


def _one_process(
    course: Course,
    dataset: ImageDataset,
    split: Split,
    journal: Journal,
    seed: int,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = load_space(course.space)

    def objective(trial: optuna.Trial) -> float:
        config = space.suggest(trial, course.config)
        config = config.model_copy(update={"seed": seed_of(seed, trial.number)})
        record = journal.folder / "trials" / str(trial.number)
        best = -1.0
        for epoch, value in enumerate(_epochs(config, dataset, split, course, record, course.workers[0]), 1):
            best = max(best, value)
            trial.report(value, epoch)
            if trial.should_prune() or journal.left < 0:
                journal.ended(best, record)
                raise optuna.TrialPruned
        journal.ended(best, record)
        return best

    storage = f"sqlite:///{journal.folder}/study.db"
    study = optuna.create_study(storage=storage, sampler=sampler, pruner=pruner, direction="maximize")
    study.optimize(objective, timeout=course.seconds)


def _epochs(
    config: TrialConfig, dataset: ImageDataset, split: Split, course: Course, path: Path, workers: int
) -> Any:
    """Yield macro-F1 of each epoch of the sources' pipeline; keep the weights of the best one in `path`."""
    record, best = RecordFolder(path), -1.0
    record.write_config(config.to_yaml())
    trial = SourcesTrial(config, dataset, split, course.files, workers)
    for epoch in range(config.epochs):
        trial.train(epoch)
        value = trial.validate()
        if value > best:
            best = value
            save_weights(record, copy_weights(trial.trial.averager.evaluated(), {}), epoch + 1, None)
        yield value


def ray_arm(course: Course, dataset: ImageDataset, split: Split, journal: Journal, seed: int) -> None:
    """Ray Tune's OptunaSearch and ASHA around a function, with the sources' pipeline."""
    import ray
    from ray import tune

    def train(given: dict[str, Any], data: Any) -> None:
        torch.set_num_threads(1)
        warnings.filterwarnings("ignore")
        config, images = (
            TrialConfig.model_validate_json(given["config"]),
            data["rest"].with_images(ray.get(data["images"])),
        )
        path, best = Path(given["record"]), -1.0
        epochs = _epochs(config, images, data["split"], data["course"], path, data["course"].workers[1])
        for epoch, value in enumerate(epochs, 1):
            best = max(best, value)
            tune.report({"epoch": epoch, "macro_f1": value, "best": best})

    def with_data() -> Any:
        shared = {"images": ray.put(dataset.images[:]), "rest": dataset.with_images(dataset.images[:0])}
        return tune.with_parameters(train, data={**shared, "split": split, "course": course})

    _stock_ray(course, journal, seed, with_data, reuse=False)


def ray_ours_arm(course: Course, dataset: ImageDataset, split: Split, journal: Journal, seed: int) -> None:
    """Ray Tune's OptunaSearch and ASHA around our trainable, with reused actors: the search alone differs."""
    from ray import tune

    from trainable.tune_adapter import ImageTrainable, SharedData

    class Reporting(ImageTrainable):
        """Adds the best value so far, which `on_trial_complete` is told of."""

        def step(self) -> dict[str, Any]:
            result = super().step()
            self._best = result["macro_f1"] if result["epoch"] == 1 else max(self._best, result["macro_f1"])
            return {**result, "best": self._best}

    def with_data() -> Any:
        data = SharedData.put(dataset, split)
        return tune.with_parameters(Reporting, data=data, threads=1, cache_dir=course.cache_dir)

    _stock_ray(course, journal, seed, with_data, reuse=True)


@dataclass(frozen=True)
class Suggest:
    """The space as OptunaSearch takes it; no function, for Ray pickles it."""

    course: Course
    folder: Path
    seed: int

    def __call__(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return what a trial is told."""
        config = load_space(self.course.space).suggest(trial, self.course.config)
        config = config.model_copy(update={"seed": seed_of(self.seed, trial.number)})
        attempt = uuid.uuid4().hex[:12]
        path = self.folder / "trials" / attempt
        RecordFolder(path).write_config(config.to_yaml())
        told = {"config": config.model_dump_json(), "record": str(path)}
        return {"number": trial.number, "attempt": attempt, **told}


def _stock_ray(
    course: Course, journal: Journal, seed: int, with_data: Callable[[], Any], *, reuse: bool
) -> None:
    """Run Tune with its own Optuna search and ASHA, as many trials at a time as tailtune."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from tailtune.ray_runtime import connected_ray

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    class Told(tune.Callback):
        """Tells the journal."""

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            path = Path(trial.config["record"])
            journal.ended((trial.last_result or {}).get("best"), path)
            shutil.rmtree(path, ignore_errors=True)

    budget = BudgetSpec(trials=1, epochs=course.config.epochs, grace_epochs=grace(course.config.epochs))
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="macro_f1",
        mode="max",
        max_t=budget.epochs,
        grace_period=budget.grace_epochs,
        reduction_factor=budget.reduction_factor,
    )
    with connected_ray(journal.folder, CONCURRENT):
        tuner = tune.Tuner(
            tune.with_resources(with_data(), {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=OptunaSearch(
                    space=Suggest(course, journal.folder, seed), metric="macro_f1", mode="max", seed=seed
                ),
                scheduler=scheduler,
                num_samples=-1,
                max_concurrent_trials=CONCURRENT,
                time_budget_s=journal.left,
                reuse_actors=reuse,
            ),
            run_config=tune.RunConfig(
                name="race",
                storage_path=str(journal.folder / "tune"),
                callbacks=[Told()],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        for error in tuner.fit().errors:
            raise error


ARMS: Mapping[str, Callable[[Course, ImageDataset, Split, Journal, int], None]] = {
    "tailtune": tailtune_arm,
    "random": random_arm,
    "optuna": optuna_arm,
    "ray": ray_arm,
    "ray-ours": ray_ours_arm,
}
BASELINES = ("random", "optuna", "ray")

__all__ = ["ARMS", "BASELINES", "CONFIG", "WEIGHTS", "Course", "Journal"]

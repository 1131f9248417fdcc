"""P6: processor seconds that a search's driver spends on a trial that computes nothing, against stock Ray.

    python -m benchmarks.driver_cost [--rounds 5]
    python -m benchmarks.driver_cost --whole 1000
    python -m benchmarks.driver_cost --growth 1000 3000 10000

Both sides: the space `tiny` (a dozen conditional parameters), TPE, SQLite, four trials at a time, workers used
again, one epoch a trial. Stock is Ray's OptunaSearch with Optuna's own TPE. A round is 40 trials of each, in
turn, in copies of one study that has 980 finished ones: what a trial costs as the study passes 1,000. `--whole`
runs a search of so many from its beginning, ours and then stock's, once. The growth is sampled: 20 suggestions
and results of a ledger whose study already has so many finished trials, TPE's own suggestion (`TPES_OWN`, the
sampler's methods) and everything else apart.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
from ray import tune

from benchmarks.studies import Stock, study_in
from benchmarks.table import Row, run, shown
from search_spaces.space import SearchSpace, load_space
from tailtune.exchange import EpochResult
from tailtune.ray_runtime import connected_ray
from tailtune.search import run_search
from tailtune.study import Study
from trainable.config import TrialConfig

SPACE, CONCURRENT = "tiny", 4
BEFORE, TRIALS = 980, 40
DRAWN = 250
TPES_OWN = ("infer_relative_search_space", "sample_relative", "sample_independent")
TABLES = ("trials", "trial_params", "trial_values", "trial_intermediate_values", "trial_user_attributes")


class Idle(tune.Trainable):
    """Reports a value that depends on the learning rate, and nothing else."""

    def setup(self, config: dict[str, Any]) -> None:
        """Begin."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial."""
        self.value = value_of(TrialConfig.model_validate_json(new_config["config"]))
        return True

    def step(self) -> dict[str, Any]:
        """Report."""
        told = {"done": True, "final": True, "final_value": self.value, "diverged": None, "history": []}
        return {"epoch": 1, "macro_f1": self.value, "cost": {"wall_seconds": 0.0}, **told}


def value_of(config: TrialConfig) -> float:
    """Return what TPE is to raise: a smooth function of a few parameters."""
    return 1.0 / (1.0 + abs(config.optimizer.lr - 0.05) + config.backbone.drop_rate)


def ours(study: Study, space: SearchSpace, trials: int) -> float:
    """Run `trials` more; return the driver's processor seconds a trial."""
    start = time.process_time()
    run_search(study, space, Idle)
    return (time.process_time() - start) / trials


def stock(folder: Path, study_name: str, trials: int) -> float:
    """Run `trials` more in the study of `folder`/study.db; return the driver's processor seconds a trial."""
    from ray.tune.search.optuna import OptunaSearch

    start = time.process_time()
    search = OptunaSearch(
        space=Stock(SPACE, TrialConfig(epochs=1), folder),
        study_name=study_name,
        metric="macro_f1",
        mode="max",
        seed=0,
        storage=optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db"),
    )
    tune.Tuner(
        tune.with_resources(Idle, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=CONCURRENT, reuse_actors=True
        ),
        run_config=tune.RunConfig(name="stock", storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    return (time.process_time() - start) / trials


def both(home: Path, before: int, trials: int) -> tuple[float, float]:
    """Return ours and stock's seconds a trial, each in its own copy of a study that has `before` trials."""
    study, space = filled(home, before, trials)
    theirs = Path(tempfile.mkdtemp(dir=home))
    shutil.copy(study.folder / "study.db", theirs)
    return ours(study, space, trials), stock(theirs, study.name, trials)


def rows(rounds: int) -> Iterator[Row]:
    """Yield the driver's cost a trial, as a share of stock's."""
    costs = list(measured(rounds, BEFORE, TRIALS))
    shares = [mine / theirs for mine, theirs in costs]
    what = f"driver's CPU a trial over stock OptunaSearch's, trials {BEFORE} to {BEFORE + TRIALS}"
    yield Row("P6", what, "at most 1, aim 0.5", shown(shares), statistics.median(shares) <= 1.0)
    milliseconds = [1e3 * mine for mine, _ in costs]
    yield Row("P6", "the same, ours alone", "stated", shown(milliseconds, 0, " ms"), True)


def measured(rounds: int, before: int, trials: int) -> Iterator[tuple[float, float]]:
    """Yield `both` of each round."""
    warnings.filterwarnings("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with connected_ray(home / "ray-home", CONCURRENT):
            for _ in range(rounds):
                yield both(home, before, trials)


def whole(trials: int) -> None:
    """Print what a whole search of `trials` costs."""
    ((mine, theirs),) = measured(1, 0, trials)
    print(f"{trials} trials: ours {1e3 * mine:.0f} ms a trial, stock {1e3 * theirs:.0f}: {mine / theirs:.2f}")


class Clock:
    """Processor seconds inside a search algorithm's two methods of suggestion."""

    def __init__(self) -> None:
        self.seconds, self._inside = 0.0, False

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return `method`, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._inside:
                return method(*arguments, **named)
            self._inside, start = True, time.process_time()
            try:
                return method(*arguments, **named)
            finally:
                self._inside = False
                self.seconds += time.process_time() - start

        return timed


def filled(home: Path, count: int, further: int) -> tuple[Study, SearchSpace]:
    """Return a study of `count` finished trials, the same `DRAWN` random ones over and over; `further` lack."""
    study = study_in(home, SPACE, trials=count + further, epochs=1, concurrent=CONCURRENT)
    space = load_space(SPACE)
    scratch = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), direction="maximize")
    base = TrialConfig(epochs=1)
    for number in range(min(count, DRAWN)):
        trial = scratch.ask()
        config = space.suggest(trial, base)
        value = value_of(config)
        study.optuna().add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=value,
                intermediate_values={1: value},
                user_attrs={"fingerprint": str(number), "config": config.model_dump(mode="json")},
            )
        )
    with contextlib.closing(sqlite3.connect(study.folder / "study.db")) as database:
        for done in range(DRAWN, count, DRAWN):
            for table in TABLES:
                _copy_rows(database, table, done, min(DRAWN, count - done))
        database.commit()
    return Study.open(home, study.name), space


def _copy_rows(database: sqlite3.Connection, table: str, done: int, count: int) -> None:
    """Copy the rows of the first `count` trials, as those of the trials from number `done` on."""
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
    moved = {"trial_id": f"trial_id + {done}", "number": f"number + {done}"}
    if table != "trials":
        moved[columns[0]] = "NULL"  # its own id
    chosen = ", ".join(moved.get(column, column) for column in columns)
    database.execute(f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE trial_id <= {count}")


def growth(counts: list[int], samples: int = 20) -> None:
    """Print a line for each number of trials that a study has already."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    process = psutil.Process()
    print("| trials before | TPE's own ms a trial | all the rest | opening, s | memory of the driver, MiB |")
    print("|---:|---:|---:|---:|---:|")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            study, space = filled(Path(folder), count, samples)
            with study.locked():
                start = time.process_time()
                ledger = study.ledger(space)
                opening = time.process_time() - start
                clock, own = Clock(), optuna.samplers.TPESampler
                methods = {name: getattr(own, name) for name in TPES_OWN}
                for name, method in methods.items():
                    setattr(own, name, clock.around(method))
                start = time.process_time()
                for _ in range(samples):
                    trial = ledger.ask("ray")
                    assert trial is not None
                    value = value_of(trial.config)
                    ledger.result(trial.number, EpochResult(1, value, final=True, done=True, final_value=value))
                spent = time.process_time() - start
                for name, method in methods.items():
                    setattr(own, name, method)
                ledger.close()
            own_ms, rest_ms = 1e3 * clock.seconds / samples, 1e3 * (spent - clock.seconds) / samples
            memory = process.memory_info().rss / 2**20
            print(f"| {count} | {own_ms:.1f} | {rest_ms:.1f} | {opening:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    if "--whole" in sys.argv:
        whole(int(sys.argv[sys.argv.index("--whole") + 1]))
    elif "--growth" in sys.argv:
        growth([int(count) for count in sys.argv[sys.argv.index("--growth") + 1 :]])
    else:
        run(rows, __doc__)

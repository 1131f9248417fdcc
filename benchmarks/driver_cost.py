"""P6: processor seconds that a search's driver spends on a trial that computes nothing, against stock Ray.

    python -m benchmarks.driver_cost [--rounds 5]
    python -m benchmarks.driver_cost --growth 1000 3000 10000

Both sides: the space `tiny` (a dozen conditional parameters), TPE, SQLite, four trials at a time, workers used
again, one epoch a trial. Stock is Ray's OptunaSearch with Optuna's own TPE. A round is 1,000 trials of each, in
turn. The growth is sampled: 20 suggestions and results of a ledger whose study already has so many finished
trials, TPE's own suggestion (`sample_relative` and `sample_independent`) and everything else apart.
"""

from __future__ import annotations

import contextlib
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
from tailtune.algorithm import search_algorithm
from tailtune.exchange import EpochResult
from tailtune.ray_runtime import connected_ray
from tailtune.search import run_search
from tailtune.study import Study
from trainable.config import TrialConfig

SPACE, TRIALS, CONCURRENT = "tiny", 1000, 4
DRAWN = 250
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


def ours(home: Path, trials: int) -> float:
    """Return the driver's processor seconds a trial."""
    study, space = study_in(home, SPACE, trials=trials, epochs=1, concurrent=CONCURRENT), load_space(SPACE)
    start = time.process_time()
    run_search(study, space, Idle)
    return (time.process_time() - start) / trials


def stock(home: Path, trials: int) -> float:
    """Return the driver's processor seconds a trial."""
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = Path(tempfile.mkdtemp(dir=home))
    start = time.process_time()
    search = OptunaSearch(
        space=Stock(SPACE, TrialConfig(epochs=1), folder),
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


def rows(rounds: int, trials: int = TRIALS) -> Iterator[Row]:
    """Yield the driver's cost a trial, as a share of stock's."""
    warnings.filterwarnings("ignore")
    mine, shares = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with connected_ray(home / "ray-home", CONCURRENT):
            for _ in range(rounds):
                mine.append(ours(home, trials))
                shares.append(mine[-1] / stock(home, trials))
    what = f"driver's CPU a trial over stock OptunaSearch's, {trials} trials"
    yield Row("P6", what, "at most 1, aim 0.5", shown(shares), statistics.median(shares) <= 1.0)
    milliseconds = [1e3 * seconds for seconds in mine]
    yield Row("P6", "the same, ours alone", "stated", shown(milliseconds, 0, " ms"), True)


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


def filled(home: Path, count: int) -> tuple[Study, SearchSpace]:
    """Return a study that has `count` finished trials: random ones, the same `DRAWN` over and over."""
    study, space = study_in(home, SPACE, trials=count + 100, epochs=1), load_space(SPACE)
    scratch = optuna.create_study(sampler=search_algorithm(0, use_random=True), direction="maximize")
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
            study, space = filled(Path(folder), count)
            with study.locked():
                start = time.process_time()
                ledger = study.ledger(space)
                opening = time.process_time() - start
                clock, own = Clock(), optuna.samplers.TPESampler
                methods = {name: getattr(own, name) for name in ("sample_relative", "sample_independent")}
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
    if "--growth" in sys.argv:
        growth([int(count) for count in sys.argv[sys.argv.index("--growth") + 1 :]])
    else:
        run(rows, __doc__)

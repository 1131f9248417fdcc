"""Searches replayed on real trials: what a way of beginning is worth, over many seeds.

    python -m benchmarks.first_trial DATA … --keep trials.jsonl
    python -m benchmarks.search_replay trials.jsonl [--space tiny] [--seeds 40] [--workers 2]

Extremely randomised trees, fitted to the parameters and learning curves of whole trials, stand for training;
to each curve is added the cross-validated residual of one of the real trials. ASHA and the search algorithms
are tailtune's own, with `--workers`. Shown is what the incumbent (the best on the noisy curve among the trials
that have ended) is worth without noise, after so many whole trials' time of one worker.
"""

from __future__ import annotations

import argparse
import heapq
import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import cross_val_predict

from benchmarks.table import heading
from search_spaces.space import load_space
from tailtune.algorithm import algorithm_for, search_algorithm
from tailtune.asha import Asha
from tailtune.centre import Centre
from tailtune.launch import grace
from trainable.config import TrialConfig

FACTOR = 3
AFTER = (1, 2, 4, 8, 15)
"""Whole trials' time of one worker."""

Beginning = Callable[[list[FrozenTrial], int], optuna.samplers.BaseSampler]


def random_then_tpe(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """Ten random draws, then TPE."""
    return search_algorithm(seed)


def centre_then_random(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """The centre, nine random draws, then TPE."""
    return search_algorithm(seed) if trials else Centre()


def as_it_is(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """The centre, neighbours of the best until ten have ended, then TPE."""
    return algorithm_for(trials, seed)


BEGINNINGS: tuple[Beginning, ...] = (random_then_tpe, centre_then_random, as_it_is)


@dataclass(frozen=True)
class Surrogate:
    """Stands for training.

    Attributes:
        model: Predicts a curve.
        columns: What it is given: a number, or a name with one of its choices.
        residuals: `(trials, epochs)`, of the real trials.
    """

    model: ExtraTreesRegressor
    columns: tuple[tuple[str, object], ...]
    residuals: NDArray[np.float64]

    @classmethod
    def of(cls, trials: Sequence[dict[str, Any]]) -> Surrogate:
        """Fit one; also says how well it predicts."""
        found: dict[tuple[str, object], None] = {}
        for parameters in (trial["parameters"] for trial in trials):
            for name, value in parameters.items():
                numeric = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
                found[_plain(name), None if numeric else value] = None
        columns = tuple(found)
        inputs = np.array([_row(trial["parameters"], columns) for trial in trials])
        curves = np.array([trial["curve"] for trial in trials])
        model = ExtraTreesRegressor(500, min_samples_leaf=2, random_state=0)
        held_out = cross_val_predict(model, inputs, curves, cv=10)
        fitted = float(np.corrcoef(held_out.max(1), curves.max(1))[0, 1])
        print(f"{len(trials)} trials, correlation of held-out final values {fitted:.2f}")
        return cls(model.fit(inputs, curves), columns, curves - held_out)

    def curve(self, parameters: dict[str, Any]) -> NDArray[np.float64]:
        """Return the learning curve without noise."""
        curve: NDArray[np.float64] = self.model.predict(np.array([_row(parameters, self.columns)]))[0]
        return curve


def _plain(name: str) -> str:
    """Return a parameter's name without the list that earlier choices have shortened."""
    return name.partition("[")[0]


def _row(parameters: dict[str, Any], columns: Sequence[tuple[str, object]]) -> list[float]:
    plain = {_plain(name): value for name, value in parameters.items()}
    return [
        float(plain.get(name, -1.0)) if choice is None else float(plain.get(name) == choice)
        for name, choice in columns
    ]


def replay(surrogate: Surrogate, space_name: str, beginning: Beginning, workers: int, seed: int) -> list[float]:
    """Return what the incumbent is worth at each time of `AFTER`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    rng, epochs = np.random.default_rng(seed), surrogate.residuals.shape[1]
    space, base = load_space(space_name), TrialConfig(epochs=epochs)
    study, asha = optuna.create_study(direction="maximize"), Asha(epochs, grace(epochs), FACTOR)
    under_way: list[tuple[int, int, int]] = []  # when its next epoch ends, number, epoch
    trials: dict[int, tuple[optuna.Trial, NDArray[np.float64], NDArray[np.float64]]] = {}
    incumbents, best = [(0, 0.0)], -1.0

    def begin(now: int) -> None:
        found = study.get_trials(deepcopy=False)
        number = len(found)
        study.sampler = beginning(found, seed * 1000 + number)
        trial = study.ask()
        space.suggest(trial, base)
        worth = surrogate.curve(trial.params)
        trials[number] = trial, worth, worth + surrogate.residuals[rng.integers(len(surrogate.residuals))]
        heapq.heappush(under_way, (now + 1, number, 1))

    for _ in range(workers):
        begin(0)
    while under_way[0][0] <= AFTER[-1] * epochs:
        now, number, epoch = heapq.heappop(under_way)
        trial, worth, seen = trials[number]
        trial.report(seen[epoch - 1], epoch)
        asha.record(number, epoch, seen[epoch - 1])
        stopped = epoch < epochs and asha.stops(number, epoch)
        if epoch < epochs and not stopped:
            heapq.heappush(under_way, (now + 1, number, epoch + 1))
            continue
        value = float(seen[:epoch].max())
        study.tell(trial, None if stopped else value, optuna.trial.TrialState.PRUNED if stopped else None)
        if value > best:
            best = value
            incumbents.append((now, float(worth[:epoch].max())))
        begin(now)
    return [[worth for at, worth in incumbents if at <= after * epochs][-1] for after in AFTER]


def main() -> None:
    """Print a row for each way of beginning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=Path)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print(heading("python -m benchmarks.search_replay").partition("\n")[0], end="\n\n")
    surrogate = Surrogate.of([json.loads(line) for line in given.trials.read_text().splitlines()])
    print(
        "\n| beginning |" + "".join(f" after {after} |" for after in AFTER) + "\n|---|" + "---:|" * len(AFTER)
    )
    with ProcessPoolExecutor() as pool:
        for beginning in BEGINNINGS:
            one = partial(replay, surrogate, given.space, beginning, given.workers)
            runs = np.array(list(pool.map(one, range(given.seeds))))
            errors = runs.std(axis=0, ddof=1) / np.sqrt(given.seeds)
            cells = "".join(f" {m:.3f} ± {e:.3f} |" for m, e in zip(runs.mean(axis=0), errors, strict=True))
            print(f"| {(beginning.__doc__ or '').rstrip('.')} |{cells}", flush=True)


if __name__ == "__main__":
    main()

"""Searches replayed on real trials: what a way of beginning is worth, over many seeds.

    python -m benchmarks.first_trial DATA … --keep trials.jsonl
    python -m benchmarks.search_replay trials.jsonl … [--space tiny] [--seeds 200] [--workers 2]

Gaussian processes, fitted to the parameters, the learning curves and the test scores of whole trials, stand for
training; to each curve is added the held-out residual of one of the real trials. ASHA and the search algorithms
are tailtune's own, with `--workers`. Shown is the test score, without noise, of the incumbent (the best on the
noisy curve among the trials that have ended) after so many whole trials' time of one worker. An incumbent may
be chosen by its best epoch, as a search does, or by the mean of its three best.
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
from optuna.trial import FrozenTrial, TrialState
from sklearn.base import BaseEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import cross_val_predict
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.table import heading
from search_spaces.space import load_space
from tailtune.algorithm import algorithm_for, search_algorithm
from tailtune.asha import Asha
from tailtune.centre import Centre
from tailtune.launch import grace
from trainable.config import TrialConfig

FACTOR = 3
AFTER = (1, 2, 4, 6, 8, 10)
"""Whole trials' time of one worker."""
LOGARITHMIC = ("lr", "weight_decay")

Beginning = Callable[[list[FrozenTrial], int], optuna.samplers.BaseSampler]
Curve = NDArray[np.float64]


def optunas(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """Optuna's TPE as stock Ray uses it: each parameter alone, a stopped trial is told as a finished one."""
    return optuna.samplers.TPESampler(seed=seed)


def random_then_tpe(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """Ten random draws, then TPE."""
    return search_algorithm(seed)


def centre_then_random(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """The centre, nine random draws, then TPE."""
    return search_algorithm(seed) if trials else Centre()


def as_it_is(trials: list[FrozenTrial], seed: int) -> optuna.samplers.BaseSampler:
    """The centre, neighbours of the best until ten have ended, then TPE."""
    return algorithm_for(trials, seed)


BEGINNINGS: tuple[Beginning, ...] = (optunas, random_then_tpe, centre_then_random, as_it_is)


def best_epoch(seen: Curve) -> float:
    """Its best epoch."""
    return float(seen.max())


def three_best(seen: Curve) -> float:
    """The mean of its three best epochs."""
    return float(np.sort(seen)[-3:].mean())


CHOICES: tuple[Callable[[Curve], float], ...] = (best_epoch, three_best)


@dataclass(frozen=True)
class Surrogate:
    """Stands for training.

    Attributes:
        model: Predicts a curve, and the test score after it.
        columns: What it is given: a number, or a name with one of its choices.
        residuals: `(trials, epochs)`, of the real trials.
    """

    model: BaseEstimator
    columns: tuple[tuple[str, object], ...]
    residuals: Curve

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
        scores = np.array([[*trial["curve"], trial["test"]] for trial in trials])
        lengths = Matern(length_scale=np.full(len(columns), 6.0), length_scale_bounds=(1.0, 100.0), nu=2.5)
        process = GaussianProcessRegressor(ConstantKernel() * lengths + WhiteKernel(0.3), normalize_y=True)
        model = make_pipeline(StandardScaler(), MultiOutputRegressor(process))
        held_out = cross_val_predict(model, inputs, scores, cv=10)
        fitted = [float(np.corrcoef(held_out[:, i], scores[:, i])[0, 1]) for i in (-2, -1)]
        spread = float(np.std(scores[:, -2] - held_out[:, -2]))
        print(
            f"{len(trials)} trials; held-out correlation {fitted[0]:.2f} (last epoch, validation; "
            f"residual {spread:.3f}), {fitted[1]:.2f} (test)"
        )
        return cls(model.fit(inputs, scores), columns, (scores - held_out)[:, :-1])

    def predicted(self, parameters: dict[str, Any]) -> tuple[Curve, float]:
        """Return the learning curve and the test score without noise."""
        *curve, test = self.model.predict(np.array([_row(parameters, self.columns)]))[0]
        return np.array(curve), float(test)


def _plain(name: str) -> str:
    """Return a parameter's name without the list that earlier choices have shortened."""
    return name.partition("[")[0]


def _row(parameters: dict[str, Any], columns: Sequence[tuple[str, object]]) -> list[float]:
    plain = {_plain(name): value for name, value in parameters.items()}
    row = []
    for name, choice in columns:
        if choice is not None:
            row.append(float(plain.get(name) == choice))
        elif name.endswith(LOGARITHMIC):
            row.append(float(np.log(plain.get(name, 1e-5))))
        else:
            row.append(float(plain.get(name, -1.0)))
    return row


def replay(
    surrogate: Surrogate,
    space_name: str,
    beginning: Beginning,
    choice: Callable[[Curve], float],
    workers: int,
    seed: int,
) -> list[float]:
    """Return the incumbent's test score at each time of `AFTER`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    rng, epochs = np.random.default_rng(seed), surrogate.residuals.shape[1]
    space, base = load_space(space_name), TrialConfig(epochs=epochs)
    study, asha = optuna.create_study(direction="maximize"), Asha(epochs, grace(epochs), FACTOR)
    under_way: list[tuple[int, int, int]] = []  # when its next epoch ends, number, epoch
    trials: dict[int, tuple[optuna.Trial, Curve, Curve, float]] = {}
    incumbents, best = [(0, 0.0)], -1.0

    def begin(now: int) -> None:
        found = study.get_trials(deepcopy=False)
        number = len(found)
        study.sampler = beginning(found, seed * 1000 + number)
        trial = study.ask()
        space.suggest(trial, base)
        curve, test = surrogate.predicted(trial.params)
        noisy = curve + surrogate.residuals[rng.integers(len(surrogate.residuals))]
        trials[number] = trial, curve, noisy, test
        heapq.heappush(under_way, (now + 1, number, 1))

    for _ in range(workers):
        begin(0)
    while under_way[0][0] <= AFTER[-1] * epochs:
        now, number, epoch = heapq.heappop(under_way)
        trial, curve, seen, test = trials[number]
        trial.report(seen[epoch - 1], epoch)
        asha.record(number, epoch, seen[epoch - 1])
        stopped = epoch < epochs and asha.stops(number, epoch)
        if epoch < epochs and not stopped:
            heapq.heappush(under_way, (now + 1, number, epoch + 1))
            continue
        value = choice(seen[:epoch])
        if beginning is optunas:
            study.tell(trial, float(seen[epoch - 1]))
        else:
            study.tell(trial, None if stopped else value, TrialState.PRUNED if stopped else None)
        if value > best:
            best = value
            incumbents.append((now, test - float(curve.max() - curve[:epoch].max())))
        begin(now)
    return [[worth for at, worth in incumbents if at <= after * epochs][-1] for after in AFTER]


def main() -> None:
    """Print a row for each way of beginning, and of choosing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=Path, nargs="+")
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    print(heading("python -m benchmarks.search_replay").partition("\n")[0], end="\n\n")
    lines = [line for path in given.trials for line in path.read_text(encoding="utf-8").splitlines()]
    trials = [json.loads(line) for line in lines]
    epochs = max(len(trial["curve"]) for trial in trials)
    whole = [t for t in trials if t.get("test") is not None and np.isfinite(t["curve"]).sum() == epochs]
    if len(whole) < len(trials):
        print(f"{len(trials) - len(whole)} trials that diverged, or have no test score, are left out")
    surrogate = Surrogate.of(whole)
    titles = "".join(f" after {after} |" for after in AFTER)
    print(f"\n| beginning | the incumbent has |{titles}\n|---|---|" + "---:|" * len(AFTER))
    with ProcessPoolExecutor() as pool:
        for choice in CHOICES:
            for beginning in BEGINNINGS:
                one = partial(replay, surrogate, given.space, beginning, choice, given.workers)
                runs = np.array(list(pool.map(one, range(given.seeds))))
                errors = runs.std(axis=0, ddof=1) / np.sqrt(given.seeds)
                cells = "".join(f" {m:.3f} ± {e:.3f} |" for m, e in zip(runs.mean(axis=0), errors, strict=True))
                names = [(named.__doc__ or "").rstrip(".") for named in (beginning, choice)]
                print(f"| {names[0]} | {names[1][0].lower()}{names[1][1:]} |{cells}", flush=True)


if __name__ == "__main__":
    main()

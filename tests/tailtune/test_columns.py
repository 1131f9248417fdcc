"""Parameters as numbers: read once of what has ended, again of what has not."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tailtune.columns import Columns

KINDS = CategoricalDistribution(["a", None])
SPACE: dict[str, BaseDistribution] = {"rate": FloatDistribution(0, 1), "kind": KINDS}


def trial(number: int, state: TrialState = TrialState.PRUNED, **params: object) -> FrozenTrial:
    """Return a trial with those of the space's parameters that are given."""
    frozen = create_trial(state=state, params=params, distributions={name: SPACE[name] for name in params})
    frozen.number = number
    return frozen


def test_ended_trials_are_read_once_and_running_ones_each_time() -> None:
    columns, asked = Columns(), []

    def params_of(one: FrozenTrial) -> dict[str, object]:
        asked.append(one.number)
        return one.params

    good, rest = [trial(3, rate=0.5, kind=None)], [trial(0, rate=0.25), trial(9, TrialState.RUNNING, kind="a")]
    first = columns.read([good, rest], params_of)
    assert sorted(asked) == [0, 3, 9]
    found = columns.observed(first[0], SPACE)
    assert found["rate"].tolist() == [0.5]
    assert found["kind"].tolist() == [1]
    assert found["kind"].dtype == np.int64
    assert columns.observed(first[1], SPACE)["rate"].tolist() == []
    assert columns.observed(first[1], {"rate": SPACE["rate"]})["rate"].tolist() == [0.25]
    assert columns.observed(first[1], {"unheard of": SPACE["rate"]})["unheard of"].tolist() == []
    ended = trial(9, rate=0.75, kind="a")
    asked.clear()
    (rows,) = columns.read([[ended, *good, rest[0]]], params_of)
    assert asked == [9]
    assert columns.observed(rows, SPACE)["rate"].tolist() == [0.75, 0.5]
    columns.read([[ended]], params_of)
    assert asked == [9]


def test_many_trials_and_names_find_room() -> None:
    columns = Columns()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for number in range(60):
        asked = study.ask()
        wanted = [asked.suggest_float(f"x{at}", 0.0, 1.0) for at in range(number % 7, number)]
        study.tell(asked, sum(wanted))
        (rows,) = columns.read([study.trials], lambda one: one.params)
        for name in ("x0", "x5", f"x{max(number - 1, 0)}"):
            found = columns.observed(rows, {name: FloatDistribution(0.0, 1.0)})[name].tolist()
            assert found == [one.params[name] for one in study.trials if name in one.params]

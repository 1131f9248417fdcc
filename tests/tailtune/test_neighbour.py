"""What a search tries before TPE: neighbours of the best trial."""

from collections import Counter

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search_spaces.space import load_space
from tailtune.algorithm import BEGINNING, algorithm_for
from tailtune.centre import Centre
from tailtune.neighbour import Neighbour, best_parameters
from trainable.config import TrialConfig

DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "depth": IntDistribution(1, 100),
    "kind": CategoricalDistribution(tuple("abcdefgh")),
    **{f"x{i}": FloatDistribution(0.0, 1.0) for i in range(7)},
}
BEST = {"lr": 0.01, "depth": 7, "kind": "c", **{f"x{i}": i / 10 for i in range(7)}}


def drawn(parameters: dict[str, object], seed: int) -> dict[str, object]:
    return optuna.create_study(sampler=Neighbour(parameters, seed)).ask(DISTRIBUTIONS).params


def changed(parameters: dict[str, object], found: dict[str, object]) -> set[str]:
    return {key for key in found if found[key] != parameters.get(key)}


def test_three_parameters_in_ten_change_and_each_of_them_in_its_turn() -> None:
    counts = Counter(key for seed in range(400) for key in changed(BEST, drawn(BEST, seed)))
    assert set(counts) == set(BEST)
    assert all(75 < count < 165 for key, count in counts.items()), counts  # 120 expected, standard deviation 9


def test_the_same_seed_draws_the_same_neighbour() -> None:
    assert drawn(BEST, 3) == drawn(BEST, 3) != drawn(BEST, 4)


def test_a_space_of_two_parameters_is_drawn_from_as_a_whole() -> None:
    few = {"lr": DISTRIBUTIONS["lr"], "x0": DISTRIBUTIONS["x0"]}
    for seed in range(20):
        found = optuna.create_study(sampler=Neighbour({"lr": 0.01, "x0": 0.5}, seed)).ask(few).params
        assert changed({"lr": 0.01, "x0": 0.5}, found) == {"lr", "x0"}


def test_without_a_trial_it_is_a_random_draw() -> None:
    assert (
        drawn({}, 5) == optuna.create_study(sampler=optuna.samplers.RandomSampler(5)).ask(DISTRIBUTIONS).params
    )


@pytest.mark.parametrize(
    ("kept", "distribution"),
    [
        (0.5, FloatDistribution(0.0, 0.4)),
        (3, IntDistribution(4, 8)),
        (6, IntDistribution(4, 12, step=4)),
        ("z", CategoricalDistribution(("a", "b"))),
    ],
)
def test_what_a_space_no_longer_offers_is_drawn_anew(
    kept: object, distribution: optuna.distributions.BaseDistribution
) -> None:
    rest = {f"x{i}": 0.5 for i in range(7)}
    for seed in range(20):
        study = optuna.create_study(sampler=Neighbour({**rest, "it": kept}, seed))
        found = study.ask({**{key: DISTRIBUTIONS[key] for key in rest}, "it": distribution}).params["it"]
        assert found != kept


@pytest.mark.parametrize("name", ["tiny", "default", "long-tail", "frozen", "full"])
def test_neighbours_are_lawful_in_every_space(name: str) -> None:
    space = load_space(name)
    centre = optuna.create_study(sampler=Centre()).ask()
    space.suggest(centre, TrialConfig())
    for seed in range(15):
        trial = optuna.create_study(sampler=Neighbour(centre.params, seed)).ask()
        space.suggest(trial, TrialConfig())
        shared = set(trial.params) & set(centre.params)
        assert sum(trial.params[key] == centre.params[key] for key in shared) > 0


def study_of(*trials: optuna.trial.FrozenTrial) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        study.add_trial(trial)
    return study


def one(
    x: float, state: TrialState, value: float | None = None, **attributes: object
) -> optuna.trial.FrozenTrial:
    return create_trial(
        state=state,
        value=value,
        params={"x": x},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        user_attrs=attributes,
    )


def test_the_best_is_the_best_of_the_whole_trials_else_the_first_that_is_sound() -> None:
    failed, diverged = one(0.1, TrialState.FAIL), one(0.2, TrialState.PRUNED, diverged="loss is nan")
    running, stopped = one(0.3, TrialState.RUNNING), one(0.4, TrialState.PRUNED, value=0.9)
    assert best_parameters(study_of()) == {}
    assert best_parameters(study_of(failed, diverged)) == {}
    assert best_parameters(study_of(failed, diverged, running, stopped)) == {"x": 0.3}
    whole = (one(0.5, TrialState.COMPLETE, 0.6), one(0.6, TrialState.COMPLETE, 0.7))
    assert best_parameters(study_of(running, stopped, *whole)) == {"x": 0.6}


def test_the_centre_then_its_neighbours_then_tpe_and_random_draws_where_nothing_new_comes() -> None:
    study = study_of()
    kinds = [type(algorithm_for(study, number, 0)).__name__ for number in (0, 1, BEGINNING - 1, BEGINNING)]
    assert kinds == ["Centre", "Neighbour", "Neighbour", "_WaryTPE"]
    assert isinstance(algorithm_for(study, 5, 0, refused=1), optuna.samplers.TPESampler)
    assert type(algorithm_for(study, 5, 0, refused=10)) is optuna.samplers.RandomSampler

"""Where a search begins: the centre of its space, the same for every seed."""

import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import list_spaces, load_space
from tailtune.centre import Centre
from tailtune.study import Study
from tests.tailtune.toy_study import ToySpace, spec
from trainable.config import TrialConfig


@pytest.fixture
def trial() -> optuna.Trial:
    return optuna.create_study(sampler=Centre()).ask()


@pytest.mark.parametrize(
    ("distribution", "middle"),
    [
        (FloatDistribution(0.0, 0.2), 0.1),
        (FloatDistribution(1e-4, 1e-2, log=True), 1e-3),
        (FloatDistribution(0.0, 0.9, step=0.3), 0.6),
        (FloatDistribution(0.3, 0.3), 0.3),
        (IntDistribution(1, 4), 3),
        (IntDistribution(1, 100, log=True), 10),
        (IntDistribution(8, 32, step=8), 24),
        (IntDistribution(7, 7), 7),
        (CategoricalDistribution(("b", "a")), "b"),
        (CategoricalDistribution((None, 1.0)), None),
    ],
)
def test_the_middle_of_a_dimension_lies_in_it(
    distribution: optuna.distributions.BaseDistribution, middle: object
) -> None:
    found = optuna.create_study(sampler=Centre()).ask({"it": distribution}).params["it"]
    assert found == (pytest.approx(middle) if isinstance(middle, float) else middle)
    assert type(found) is type(middle)


@pytest.mark.parametrize("name", [entry.name for entry in list_spaces()])
def test_every_space_has_a_centre_with_nothing_optional(name: str, trial: optuna.Trial) -> None:
    space = load_space(name)
    config = space.suggest(trial, TrialConfig())
    for key, found in trial.params.items():
        dimension = trial.distributions[key]
        if isinstance(dimension, CategoricalDistribution):
            assert found == dimension.choices[0]
        elif dimension.log:
            assert found == pytest.approx(math.sqrt(dimension.low * dimension.high), rel=0.5)
    assert config.backbone.name in ("resnet10t", "resnet18", "tf_efficientnet_lite0")
    assert (config.mixing.name, config.averaging.name, config.tta.name) == ("none", "none", "none")
    assert space.parameters_of(config) == trial.params


def test_a_search_begins_at_the_centre_whatever_its_seed(tmp_path: Path, trial: optuna.Trial) -> None:
    ToySpace().suggest(trial, TrialConfig())
    seconds = []
    for seed in (0, 1):
        given = spec(trials=3).model_copy(update={"name": f"toy{seed}", "seed": seed})
        ledger = Study.create(tmp_path, given).ledger(ToySpace())
        first, second = ledger.ask(), ledger.ask()
        assert first is not None
        assert second is not None
        frozen = Study.open(tmp_path, given.name).optuna().trials
        assert frozen[0].params == trial.params
        seconds.append(frozen[1].params)
    assert trial.params not in seconds
    assert seconds[0] != seconds[1]


def test_a_search_with_starting_points_begins_there_and_not_at_the_centre(
    tmp_path: Path, trial: optuna.Trial
) -> None:
    ToySpace().suggest(trial, TrialConfig())
    point = {**trial.params, "optimizer.lr": 0.011}
    study = Study.create(tmp_path, spec(trials=3), start_from=[("mine", point)])
    ledger = study.ledger(ToySpace())
    ledger.ask(), ledger.ask()
    first, second = Study.open(tmp_path, study.name).optuna().trials[:2]
    assert first.params == point
    assert second.params not in (point, trial.params)


def test_what_a_starting_point_leaves_open_lies_at_the_centre(tmp_path: Path, trial: optuna.Trial) -> None:
    ToySpace().suggest(trial, TrialConfig())
    study = Study.create(tmp_path, spec(trials=3), start_from=[("nothing said", {})])
    study.ledger(ToySpace()).ask()
    first = Study.open(tmp_path, study.name).optuna().trials[0]
    assert first.user_attrs["start_from"] == "nothing said"
    assert first.params == trial.params

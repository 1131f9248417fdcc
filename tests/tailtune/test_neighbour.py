"""What a search tries before TPE: neighbours of the best trial."""

from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search_spaces.space import load_space
from tailtune.algorithm import algorithm_for
from tailtune.centre import Centre
from tailtune.exchange import Assignment, EpochResult
from tailtune.neighbour import Neighbour, best_parameters
from tailtune.optuna_bridge import Ledger
from tailtune.study import Study
from tests.tailtune.toy_study import ToySpace, make
from tests.tailtune.toy_trainable import curve
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


def one(x: float, state: TrialState, value: float | None = None, **attributes: object) -> FrozenTrial:
    epochs = attributes.pop("epochs", {})
    return create_trial(
        state=state,
        value=value,
        params={"x": x},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        user_attrs=attributes,
        intermediate_values=epochs,
    )


def test_the_parent_is_the_best_whole_trial_else_the_furthest_else_the_first() -> None:
    diverged = one(0.2, TrialState.PRUNED, diverged="nan", epochs={9: 0.9})
    first, second = one(0.3, TrialState.RUNNING), one(0.4, TrialState.RUNNING)
    stopped = one(0.5, TrialState.PRUNED, value=0.9, epochs={1: 0.1, 2: 0.9})
    further = [one(0.6 + at / 100, TrialState.RUNNING, epochs={3: 0.2 + at / 100}) for at in (0, 2, 1)]
    whole = [one(0.7 + at / 100, TrialState.COMPLETE, 0.3 + at / 100) for at in (0, 2, 1)]
    assert best_parameters([]) == {}
    assert best_parameters([first, second]) == {"x": 0.3}
    assert best_parameters([first, second, stopped]) == {"x": 0.5}
    assert best_parameters([first, diverged, stopped, *further]) == {"x": 0.62}
    assert best_parameters([first, diverged, stopped, *further, *whole]) == {"x": 0.72}


def test_a_first_trial_that_failed_is_nobodys_parent_and_nor_are_its_untried_children() -> None:
    child = one(0.4, TrialState.RUNNING)
    assert best_parameters([one(0.1, TrialState.FAIL), child]) == {}
    assert best_parameters([one(0.1, TrialState.PRUNED, diverged="loss is nan", epochs={1: 0.1}), child]) == {}


def test_a_centre_that_breaks_a_rule_is_a_parent_still() -> None:
    assert best_parameters([one(0.1, TrialState.FAIL, replaced="refused: a rule")]) == {"x": 0.1}


def test_the_centre_then_neighbours_until_ten_have_ended_then_tpe() -> None:
    replaced, running = one(0.1, TrialState.FAIL, replaced="refused"), one(0.1, TrialState.RUNNING)
    ended = [one(0.1, TrialState.COMPLETE, 0.5), one(0.1, TrialState.PRUNED, value=0.1)] * 5

    def kind(*trials: FrozenTrial, refused: int = 0) -> str:
        return type(algorithm_for(trials, 0, refused=refused)).__name__

    assert kind() == "Centre"
    assert kind(replaced) == "Centre"  # an earlier driver's: nothing has been tried
    assert kind(replaced, refused=1) == "Neighbour"
    assert kind(*[running] * 8, *ended[:9]) == "Neighbour"  # where TPE would draw at random
    assert kind(*[running] * 8, *ended) == "WaryTPE"
    assert kind(*ended, refused=9) == "WaryTPE"
    assert kind(*ended, refused=10) == "RandomSampler"


def test_a_list_that_other_choices_shorten_is_the_same_parameter() -> None:
    parent = {"sampler.name": "natural", **{f"x{i}": 0.5 for i in range(9)}}
    shortened = CategoricalDistribution(("strength", "natural"))
    asked = {"sampler.name[strength|natural]": shortened}
    kept = [
        optuna.create_study(sampler=Neighbour(parent, seed)).ask(asked).params["sampler.name[strength|natural]"]
        for seed in range(200)
    ]
    assert kept.count("natural") > 140  # 0.85 of them, and not half


class Wide(ToySpace):
    """Ten dimensions, of which one counts."""

    def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
        for number in range(9):
            trial.suggest_float(f"unused{number}", 0.0, 1.0)
        return super().suggest(trial, base)


def trained(ledger: Ledger, assignment: Assignment | None) -> None:
    assert assignment is not None
    for epoch in (1, 2):
        value = curve(assignment.config, epoch)
        last = {"done": True, "final": True, "final_value": value} if epoch == 2 else {}
        if ledger.result(assignment.number, EpochResult(epoch, value, **last)):
            break


def test_a_search_in_pieces_draws_the_same_neighbours(tmp_path: Path) -> None:
    drawn = []
    for pieces in (False, True):
        study = make(tmp_path / str(pieces), 14, 2)
        ledger = study.ledger(Wide())
        for _ in range(14):
            if pieces:
                ledger = Study.open(study.folder.parent, study.name).ledger(Wide())
            trained(ledger, ledger.ask())
        drawn.append([trial.params for trial in study.optuna().trials])
    assert drawn[0] == drawn[1]


def test_with_eight_workers_nothing_is_drawn_at_random_before_tpe(tmp_path: Path) -> None:
    study = make(tmp_path, 30, 2, concurrent=8)
    ledger = study.ledger(Wide())
    under_way = [ledger.ask() for _ in range(8)]
    while ledger.ended < 9:
        trained(ledger, under_way.pop(0))
        under_way.append(ledger.ask())
    trials = study.optuna().trials
    assert len(trials) > 10
    for trial in trials[1:]:
        shared = max(
            sum(trial.params[key] == other.params[key] for key in trial.params)
            for other in trials[: trial.number]
        )
        assert shared >= 3, trial.number  # 7 of 10 expected; a random draw shares none


def test_a_finite_space_is_not_flooded_with_duplicates(tmp_path: Path) -> None:
    class Switches(ToySpace):
        def suggest(self, trial: optuna.Trial, base: TrialConfig) -> TrialConfig:
            on = [trial.suggest_categorical(f"switch{number}", (False, True)) for number in range(7)]
            number = sum(2**at for at, each in enumerate(on) if each)
            optimizer = base.optimizer.model_copy(update={"lr": 0.001 * (number + 1)})
            return base.model_copy(update={"optimizer": optimizer})

    study = make(tmp_path, 30, 2)
    ledger = study.ledger(Switches())
    for _ in range(10):
        assignment = ledger.ask()
        assert assignment is not None
        ledger.result(
            assignment.number,
            EpochResult(2, curve(assignment.config, 2), done=True, final=True, final_value=0.5),
        )
    assert len(study.optuna().trials) <= 25

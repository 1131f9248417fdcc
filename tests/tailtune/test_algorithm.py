"""The search algorithm: what it learns from trials that diverged."""

from statistics import fmean

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from tailtune.algorithm import search_algorithm


@pytest.mark.parametrize("relative", [True, False])
def test_the_search_keeps_away_from_where_trials_diverge_late(relative: bool) -> None:
    """ASHA stopped trials below 0.5 after one epoch; those above 0.8 diverged after nine."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for at in range(20):
        stopped = at % 4 > 0
        lr = 0.5 * at / 20 if stopped else 0.8 + at / 100
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                params={"lr": lr},
                distributions={"lr": FloatDistribution(0.0, 1.0)},
                intermediate_values={1: 0.1} if stopped else dict.fromkeys(range(1, 10), 0.3),
                user_attrs={} if stopped else {"diverged": "loss is nan"},
            )
        )
    drawn = []
    for seed in range(20):
        study.sampler = search_algorithm(seed)
        trial = study.ask({"lr": FloatDistribution(0.0, 1.0)} if relative else None)
        drawn.append(trial.params["lr"] if relative else trial.suggest_float("lr", 0.0, 1.0))
        study.tell(trial, state=TrialState.FAIL)
    assert fmean(drawn) < 0.6
    assert sum(lr > 0.75 for lr in drawn) <= 4
    assert all(len(t.intermediate_values) == 9 for t in study.trials if "diverged" in t.user_attrs)

"""A trial that is drawn in memory: the same suggestions as Optuna's own ask, and one write."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces.space import load_space
from tailtune.algorithm import search_algorithm
from tailtune.draft import Draft
from tests.tailtune.toy_study import ToySpace, make
from trainable.config import TrialConfig

SPACE, BASE = load_space("tiny"), TrialConfig(epochs=2)


def suggested(*, drafted: bool, count: int = 24) -> list[optuna.trial.FrozenTrial]:
    """Draw trials of which two run at a time, told good and bad values in turn."""
    storage = optuna.storages.InMemoryStorage()
    study, running = optuna.create_study(storage=storage, direction="maximize"), []
    for number in range(count):
        study.sampler = search_algorithm(number)
        if drafted:
            draft = Draft(study, storage, study.get_trials(deepcopy=False))
            SPACE.suggest(draft.trial, BASE)
            running.append(draft.keep().number)
        else:
            trial = study.ask()
            SPACE.suggest(trial, BASE)
            running.append(trial.number)
        if len(running) == 2:
            told = running.pop(0)
            study.tell(told, study.trials[told].params["optimizer.name"] == "sgd" and 1.0 / (1 + told % 5))
    return study.trials


def test_a_draft_is_suggested_what_a_trial_in_the_study_would_be() -> None:
    pairs = zip(suggested(drafted=True), suggested(drafted=False), strict=True)
    for drafted, asked in pairs:
        assert drafted.params == asked.params
        assert drafted.distributions == asked.distributions
        assert drafted.system_attrs == asked.system_attrs
        assert (drafted.number, drafted.state, drafted.value) == (asked.number, asked.state, asked.value)


def test_a_draft_that_is_not_kept_leaves_nothing_and_one_that_is_leaves_all(tmp_path: Path) -> None:
    study = make(tmp_path).optuna()
    left = Draft(study, study._storage, study.get_trials(deepcopy=False))
    ToySpace().suggest(left.trial, BASE)
    assert study.trials == []
    kept = Draft(study, study._storage, study.get_trials(deepcopy=False))
    ToySpace().suggest(kept.trial, BASE)
    kept.trial.set_user_attr("config", {"a": [1, 2]})
    kept.keep()
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs) == (TrialState.RUNNING, {"config": {"a": [1, 2]}})
    assert trial.params == kept.trial.params
    assert trial.datetime_start is not None
    study.tell(0, 0.5)
    assert study.trials[0].value == 0.5


def test_a_refused_draft_is_a_failed_trial_that_counts_for_nothing(tmp_path: Path) -> None:
    study = make(tmp_path).optuna()
    draft = Draft(study, study._storage, study.get_trials(deepcopy=False))
    ToySpace().suggest(draft.trial, BASE)
    assert draft.refuse(0, "w" * 1000) == "w" * 400
    (trial,) = study.trials
    assert (trial.state, trial.user_attrs) == (TrialState.FAIL, {"replaced": "w" * 400})


def test_two_writers_are_noticed(tmp_path: Path) -> None:
    study = make(tmp_path).optuna()
    draft = Draft(study, study._storage, study.get_trials(deepcopy=False))
    study.ask()
    with pytest.raises(AssertionError, match="one writer"):
        draft.keep()

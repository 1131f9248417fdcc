"""The search algorithm, made anew for each suggestion, and the starting points that it learns from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import CategoricalChoiceType
from optuna.trial import FrozenTrial, TrialState

from tailtune.centre import Centre
from tailtune.columns import Columns
from tailtune.neighbour import Neighbour, best_parameters
from tailtune.tpe import WaryTPE

BEGINNING = 10
"""Trials that have ended, failed ones apart, before TPE takes over: it would draw at random until then."""
REFUSED_BEFORE_RANDOM = 10


def algorithm_for(
    trials: Sequence[FrozenTrial], seed: int, *, refused: int = 0, columns: Columns | None = None
) -> optuna.samplers.BaseSampler:
    """Return the search algorithm for one suggestion.

    The first trial is the space's centre; then come neighbours of the best so far, until ten have ended and TPE
    has something to go by. A fresh one for each trial, seeded by its number: a resumed search goes on as an
    uninterrupted one would, where a single one seeded at the start would repeat its first draws.

    Args:
        trials: All of the study, whatever their state.
        seed: Of the draws.
        refused: Suggestions in a row that were duplicates or broke a rule.
        columns: Of the same study, from one suggestion to the next; None reads all trials anew.
    """
    if refused >= REFUSED_BEFORE_RANDOM:
        return optuna.samplers.RandomSampler(seed)
    if not refused and all("replaced" in trial.user_attrs for trial in trials):
        return Centre()
    if sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials) < BEGINNING:
        return Neighbour(best_parameters(trials), seed)
    return search_algorithm(seed, columns)


def search_algorithm(seed: int, columns: Columns | None = None) -> optuna.samplers.BaseSampler:
    """Return TPE as a search uses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return WaryTPE(
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=BEGINNING,
            seed=seed,
            columns=columns,
        )


def enqueue(study: optuna.Study, points: Sequence[tuple[str, dict[str, CategoricalChoiceType]]]) -> None:
    """Put starting points, each a name and its parameters, before everything else; each is there once.

    Args:
        study: May hold some of them already, evaluated or not.
        points: Parameters as `space.suggest` will ask for them.
    """
    for name, parameters in points:
        study.enqueue_trial(parameters, user_attrs={"start_from": name}, skip_if_exists=True)

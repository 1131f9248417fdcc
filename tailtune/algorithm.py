"""The search algorithm, made anew for each suggestion, and the starting points that it learns from."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import optuna
from optuna.distributions import CategoricalChoiceType


def search_algorithm(seed: int, *, use_random: bool = False) -> optuna.samplers.BaseSampler:
    """Return the search algorithm for one suggestion: TPE, or plain random draws."""
    if use_random:
        return optuna.samplers.RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=seed)


def enqueue(study: optuna.Study, points: Sequence[tuple[str, dict[str, CategoricalChoiceType]]]) -> None:
    """Put starting points, each a name and its parameters, before everything else; each is there once.

    Args:
        study: May hold some of them already, evaluated or not.
        points: Parameters as `space.suggest` will ask for them.
    """
    for name, parameters in points:
        study.enqueue_trial(parameters, user_attrs={"start_from": name}, skip_if_exists=True)

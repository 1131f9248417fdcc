"""A neighbour of the best trial: what a search tries before TPE has enough trials to go by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

SHARE, AT_LEAST = 0.3, 2


class Neighbour(optuna.samplers.RandomSampler):
    """Keeps most parameters of one trial and draws the others anew.

    Each parameter is drawn with probability 0.3, or more where there are so few that two would not be expected
    to change; a parameter that the trial does not have is drawn too.

    Reference:
        The mutation of evolutionary search (Real et al. 2019, arXiv 1802.01548), from one parent; that a search
        gains by beginning near a sound configuration: Wu et al. 2021, arXiv 2005.01571.

    Args:
        parameters: Of the trial; none makes this a random draw.
        seed: Of the draws.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__(seed)
        self._parameters, self._coin = parameters, np.random.default_rng(seed)
        self._share = min(1.0, max(SHARE, AT_LEAST / max(1, len(parameters))))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the trial's value, or one drawn at random."""
        drawn = super().sample_independent(study, trial, param_name, param_distribution)
        if self._coin.random() < self._share or param_name not in self._parameters:
            return drawn
        kept = self._parameters[param_name]
        return kept if _holds(param_distribution, kept) else drawn


def best_parameters(study: optuna.Study) -> dict[str, Any]:
    """Return those of the best trial that was trained to its end, else of the first one that has not failed."""
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete:
        return max(complete, key=lambda trial: trial.value if trial.value is not None else -np.inf).params
    sound = (t for t in trials if t.state != TrialState.FAIL and "diverged" not in t.user_attrs and t.params)
    return next((trial.params for trial in sound), {})


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether `value` may come from `distribution`: a Python space may change its ends."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    steps = (value - distribution.low) / (distribution.step or 1)
    on_grid = distribution.step is None or abs(steps - round(steps)) < 1e-8
    return distribution.low <= value <= distribution.high and on_grid


__all__ = ["Neighbour", "best_parameters"]

"""A neighbour of the best trial: what a search tries before TPE has enough trials to go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

SHARE, AT_LEAST = 0.3, 2


class Neighbour(optuna.samplers.RandomSampler):
    """Keeps most parameters of one trial and draws the others anew.

    Each parameter is drawn anew with probability 0.3, or more where there are so few that two would not be
    expected to be (a list may give what it gave before). One that the trial does not have is drawn as well; a
    list that other choices have shortened (`sampler.name[natural|difficulty]`) is the same parameter.

    Reference:
        The mutation of evolutionary search (Real et al. 2019, arXiv 1802.01548), from one parent; that a search
        gains by beginning near a sound configuration: Wu et al. 2021, arXiv 2005.01571.

    Args:
        parameters: Of the trial; none makes this a random draw.
        seed: Of the draws.
    """

    def __init__(self, parameters: Mapping[str, Any], seed: int) -> None:
        super().__init__(seed)
        self._parameters = {_plain(name): value for name, value in parameters.items()}
        self._coin = np.random.default_rng(seed)
        self._share = min(1.0, max(SHARE, AT_LEAST / max(1, len(parameters))))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the trial's value, or one drawn at random."""
        drawn = super().sample_independent(study, trial, param_name, param_distribution)
        name = _plain(param_name)
        if self._coin.random() < self._share or name not in self._parameters:
            return drawn
        kept = self._parameters[name]
        return kept if _holds(param_distribution, kept) else drawn


def best_parameters(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return those of the best trial that was trained to its end.

    While there is none: of the one that has got furthest, of several the best; before the first epoch, those of
    the first trial, unless it has failed. A centre that a rule of its space refused is the first trial, too.
    """
    sound = [trial for trial in trials if _is_sound(trial)]
    complete = [trial for trial in sound if trial.state == TrialState.COMPLETE]
    if complete:
        return max(complete, key=lambda trial: trial.value if trial.value is not None else -np.inf).params
    begun = [trial for trial in sound if trial.intermediate_values]
    if begun:
        return max(begun, key=lambda trial: max(trial.intermediate_values.items())).params
    firsts = (trial for trial in trials[:1] if _is_sound(trial) or "replaced" in trial.user_attrs)
    return next((trial.params for trial in firsts), {})


def _is_sound(trial: FrozenTrial) -> bool:
    return trial.state != TrialState.FAIL and "diverged" not in trial.user_attrs


def _plain(name: str) -> str:
    return name.partition("[")[0]


def _holds(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether `value` may come from `distribution`: a Python space may change its ends."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    steps = (value - distribution.low) / (distribution.step or 1)
    on_grid = distribution.step is None or abs(steps - round(steps)) < 1e-8
    return distribution.low <= value <= distribution.high and on_grid


__all__ = ["Neighbour", "best_parameters"]

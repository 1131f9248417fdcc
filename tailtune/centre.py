"""The centre of a space, where a search begins that was given no other starting point."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial


class Centre(optuna.samplers.BaseSampler):
    """Suggests the first of each list and the middle of each range, whatever was found before.

    A logarithmic range's middle is the geometric one; where there are steps, the nearest step.
    """

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: each parameter has a middle of its own."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the first choice, or the middle."""
        if isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[0]
        assert isinstance(param_distribution, FloatDistribution | IntDistribution)
        low, high, step = param_distribution.low, param_distribution.high, param_distribution.step
        middle = math.sqrt(low * high) if param_distribution.log else (low + high) / 2
        if step is not None:
            middle = low + step * round((middle - low) / step)
        return type(low)(min(max(middle, low), high))


__all__ = ["Centre"]

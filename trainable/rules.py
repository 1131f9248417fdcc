"""Combinations of components that are refused: those that cannot work, and double corrections of imbalance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.errors import UsageError

if TYPE_CHECKING:
    from trainable.config import TrialConfig


def corrections(config: TrialConfig) -> list[str]:
    """Return the rule names of the parts of `config` that shift training towards rare classes.

    Loss, sampler and class weights, in this order. Deferred weights after a natural start count too.
    """
    parts = [
        (config.loss.corrects_imbalance, f"{config.loss.name}"),
        (config.sampler.corrects_imbalance, f"{config.sampler.name}_sampler"),
        (config.class_weights.corrects_imbalance, f"{config.class_weights.name}"),
    ]
    return [name for corrects, name in parts if corrects]


def check_rules(config: TrialConfig) -> None:
    """Refuse a configuration that corrects for imbalance twice, unless its `allow` names the pair.

    Raises:
        UsageError: With the pair's name as `allow` takes it.
    """
    found = corrections(config)
    for first in range(len(found)):
        for second in range(first + 1, len(found)):
            pair = f"{found[first]}+{found[second]}"
            if pair not in config.allow:
                raise UsageError(
                    f"imbalance is corrected once, but here twice: {found[first]} and {found[second]}",
                    f"drop one of them, or write `allow: [{pair}]`",
                )

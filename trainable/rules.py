"""Combinations of components that are refused: those that cannot work, and double corrections of imbalance.

A correction is a loss, a batch sampler, class weights or a post-hoc correction that favours rare classes. Two
of them correct twice, which a configuration has to `allow` by name: the parts in the order loss, sampler,
weights, post-hoc, joined by `+`; a sampler's name ends in `_sampler`, a post-hoc correction's in `_posthoc`.
Deferred weights count too, but for a loss whose paper defers weights itself: LDAM with deferred weights *is*
LDAM-DRW, one correction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.errors import UsageError, unknown_name
from trainable.class_weights import CLASS_WEIGHTS, ClassWeights
from trainable.component import Component
from trainable.losses import LOSSES, Loss
from trainable.mixing import Mixing
from trainable.mixing.none import NoMixing
from trainable.posthoc import POSTHOC, PostHoc
from trainable.samplers import SAMPLERS, BatchSampler

if TYPE_CHECKING:
    from trainable.config import TrialConfig


def known_rules() -> list[str]:
    """Return every name that `allow` takes, sorted."""
    losses = [loss for loss in LOSSES if loss.corrects_imbalance]
    samplers = [f"{_name(sampler)}_sampler" for sampler in SAMPLERS if sampler.corrects_imbalance]
    weights = [_name(weighting) for weighting in CLASS_WEIGHTS if weighting.corrects_imbalance]
    pairs = [(_name(loss), sampler) for loss in losses for sampler in samplers]
    pairs += [
        (_name(loss), weighting) for loss in losses if loss.accepts_class_weights for weighting in weights
    ]
    pairs += [(sampler, weighting) for sampler in samplers for weighting in weights]
    afterwards = [f"{_name(member)}_posthoc" for member in POSTHOC if member.corrects_imbalance]
    pairs += [(_name(loss), member) for loss in losses for member in afterwards]
    pairs += [(part, member) for part in (*samplers, *weights) for member in afterwards]
    return sorted("+".join(pair) for pair in pairs)


def _name(component: type[Component]) -> str:
    name: str = component.model_fields["name"].default
    return name


def double_corrections(
    loss: Loss, sampler: BatchSampler, class_weights: ClassWeights, posthoc: PostHoc
) -> list[str]:
    """Return the rule names of the pairs among the four that correct for imbalance twice."""
    loss_name = loss.name if loss.corrects_imbalance else None
    sampler_name = f"{sampler.name}_sampler" if sampler.corrects_imbalance else None
    weights_name = class_weights.name if class_weights.corrects_imbalance else None
    posthoc_name = f"{posthoc.name}_posthoc" if posthoc.corrects_imbalance else None
    one_method = loss.pairs_with_deferred_weights and class_weights.defer > 0.0
    pairs = [
        (loss_name, sampler_name),
        (loss_name, None if one_method else weights_name),
        (sampler_name, weights_name),
        (loss_name, posthoc_name),
        (sampler_name, posthoc_name),
        (weights_name, posthoc_name),
    ]
    return [f"{first}+{second}" for first, second in pairs if first and second]


def impossible(loss: Loss, class_weights: ClassWeights, mixing: Mixing) -> UsageError | None:
    """Return why the three cannot work together, or None where they can; no `allow` lifts this."""
    if class_weights.corrects_imbalance and not loss.accepts_class_weights:
        takers = [_name(member) for member in LOSSES if member.accepts_class_weights]
        return UsageError(
            f"loss {loss.name} takes no class weights, got class_weights {class_weights.name}",
            f"set `class_weights: none`, or a loss that takes them ({', '.join(takers)})",
        )
    if not isinstance(mixing, NoMixing) and not loss.accepts_mixed_targets:
        takers = [_name(member) for member in LOSSES if member.accepts_mixed_targets]
        return UsageError(
            f"loss {loss.name} takes no mixed targets, got mixing {mixing.name}",
            f"set `mixing: none`, or a loss that takes them ({', '.join(takers)})",
        )
    return None


def check_rules(config: TrialConfig) -> None:
    """Refuse a configuration that cannot work, or that corrects for imbalance twice without saying so.

    Raises:
        UsageError: For an impossible pair, a pair that `allow` does not name, or an `allow` that names none.
    """
    known = known_rules()
    for name in config.allow:
        if name not in known:
            raise unknown_name("rule in allow:", name, known)
    refusal = impossible(config.loss, config.class_weights, config.mixing)
    if refusal is not None:
        raise refusal
    for pair in double_corrections(config.loss, config.sampler, config.class_weights, config.posthoc):
        if pair not in config.allow:
            first, second = pair.split("+")
            raise UsageError(
                f"imbalance is corrected once, but here twice: {first} and {second}",
                f"drop one of them, or write `allow: [{pair}]`",
            )

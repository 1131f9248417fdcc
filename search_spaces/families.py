"""Families of components: which of them may be tried, and the combinations that are never suggested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from search_spaces.dimensions import Fields, ends
from trainable.averaging import AVERAGING
from trainable.class_weights import CLASS_WEIGHTS, ClassWeights
from trainable.component import Component, Suggester
from trainable.losses import LOSSES, Loss
from trainable.mixing import MIXING, Mixing
from trainable.optimizers import OPTIMIZERS
from trainable.posthoc import POSTHOC, PostHoc
from trainable.registry import Registry
from trainable.rules import double_corrections, impossible
from trainable.samplers import SAMPLERS, BatchSampler
from trainable.schedules import SCHEDULES
from trainable.techniques import (
    CLASSIFIER_RETRAINING,
    CONTRASTIVE,
    DEEP_SUPERVISION,
    DISTILLATION,
    FROZEN,
    PROGRESSIVE_RESIZING,
)
from trainable.tta import TTA

FAMILIES: dict[str, Registry[Any]] = {
    "loss": LOSSES,
    "sampler": SAMPLERS,
    "class_weights": CLASS_WEIGHTS,
    "mixing": MIXING,
    "posthoc": POSTHOC,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "averaging": AVERAGING,
    "tta": TTA,
    "progressive_resizing": PROGRESSIVE_RESIZING,
    "deep_supervision": DEEP_SUPERVISION,
    "distillation": DISTILLATION,
    "contrastive": CONTRASTIVE,
    "classifier_retraining": CLASSIFIER_RETRAINING,
    "frozen": FROZEN,
}
"""The families of which a trial takes one member each, in the order in which they are asked for."""

RULED = ("loss", "sampler", "class_weights", "mixing", "posthoc")
"""The families whose members may exclude each other (`trainable/rules.py`); the first five asked for."""

LEARNT_BY_HEADS = ("loss", "sampler", "class_weights", "posthoc")
"""The families of which a head on frozen features tells something that holds for whole networks."""

Members = dict[str, Fields]
"""The members of one family that may be tried, each with its fields."""
Combination = tuple[str, ...]


def combinations(families: Mapping[str, Members], allow: tuple[str, ...]) -> tuple[Combination, ...]:
    """Return the names of loss, sampler, class weights, mixing and post-hoc correction that may stand together.

    A combination counts only if it is lawful whatever the space may draw for its parts.
    """
    candidates = {
        family: {name: tuple(_extremes(family, name, fields)) for name, fields in families[family].items()}
        for family in RULED
    }
    return tuple(
        names
        for names in product(*(families[family] for family in RULED))
        if all(
            _lawful(parts, allow)
            for parts in product(*(candidates[f][n] for f, n in zip(RULED, names, strict=True)))
        )
    )


def _lawful(parts: tuple[Component, ...], allow: tuple[str, ...]) -> bool:
    loss, sampler, weights, mixing, posthoc = parts
    refusal = impossible(cast(Loss, loss), cast(ClassWeights, weights), cast(Mixing, mixing))
    pairs = double_corrections(
        cast(Loss, loss), cast(BatchSampler, sampler), cast(ClassWeights, weights), cast(PostHoc, posthoc)
    )
    return refusal is None and all(pair in allow for pair in pairs)


def _extremes(family: str, name: str, fields: Fields) -> Iterator[Component]:
    """Yield the members at both ends of `defer`, the one field that the rules look at."""
    first = {key: ends(dimension)[0] for key, dimension in fields.items()}
    for defer in ends(fields["defer"]) if "defer" in fields else (None,):
        change = {} if defer is None else {"defer": defer}
        yield FAMILIES[family].parse({"name": name, **first, **change})


@dataclass(frozen=True)
class Chooser:
    """Asks for one member of each family, and never for a combination that is not lawful.

    Optuna forbids that a categorical's choices change within a study. So a list that earlier answers have
    shortened is asked under a name of its own, `sampler.name[natural|difficulty]`, and a single choice is
    not asked at all. A starting point that a user gave may break the rules of the space: where its fixed
    parameters hold the plain name, the whole list is asked.
    """

    families: Mapping[str, Members]
    lawful: tuple[Combination, ...]

    def choose(self, trial: Suggester) -> dict[str, str]:
        """Return the name of one member for each family."""
        chosen: dict[str, str] = {}
        for family, members in self.families.items():
            chosen[family] = self._one(trial, family, list(members), tuple(chosen.values()))
        return chosen

    def _one(self, trial: Suggester, family: str, every: list[str], earlier: Combination) -> str:
        name, choices = f"{family}.name", every
        # Optuna has no public way to ask a live trial for what was enqueued with it.
        if family in RULED and name not in getattr(trial, "_fixed_params", {}):
            left = {names[len(earlier)] for names in self.lawful if names[: len(earlier)] == earlier}
            # Nothing is left only behind a starting point's own combination; then nothing is excluded either.
            choices = [member for member in every if member in left] or every
        if len(choices) == 1:
            return choices[0]
        asked = name if len(choices) == len(every) else f"{name}[{'|'.join(choices)}]"
        return str(trial.suggest_categorical(asked, choices))

"""A space that is data: for each part of a configuration, its choices and ranges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

import yaml
from pydantic import BaseModel

from analysis.errors import UsageError
from search_spaces.dimensions import Fields, contains, ends, pin, pinned_fields, widened, written
from search_spaces.families import FAMILIES, LEARNT_BY_HEADS, RULED, Chooser, Members, combinations
from search_spaces.reader import Reader
from search_spaces.space import PARTS, SearchSpace
from trainable.augment import AUGMENT
from trainable.backbones import OPTIONS, Backbone, check_backbone, check_weights, supports
from trainable.component import Choices, Dimension, Scalar, Suggester, validated
from trainable.config import TrainingConfig, TrialConfig
from trainable.rules import double_corrections


@dataclass(frozen=True)
class DeclaredSpace(SearchSpace):
    """What a YAML file says, whole.

    Attributes:
        name: What it was loaded by.
        source: Where it came from.
        summary: One line for people.
        families: For each of `FAMILIES`, in that order, the members that may be tried.
        backbones: Names of networks; they share `backbone`.
        backbone: Fields of the backbone but its name.
        always: Augmentations that every trial has.
        optional: Augmentations that a trial has or not.
        settings: The batch size.
        training: Fields of `TrainingConfig`.
        allow: Rules that suggestions may break.
    """

    name: str
    source: str
    summary: str
    families: Mapping[str, Members]
    backbones: tuple[str, ...]
    backbone: Fields
    always: Members
    optional: Members
    settings: Fields
    training: Fields
    allow: tuple[str, ...] = field(default=())

    @cached_property
    def chooser(self) -> Chooser:
        """Asks for the members of the families.

        Raises:
            UsageError: If no combination of them is lawful.
        """
        lawful = combinations(self.families, self.allow)
        if not lawful:
            raise UsageError(
                "some loss, sampler, class weights and mixing must go together, but none do",
                "imbalance is corrected once: make one of them neutral, or name the pair under `allow`",
            )
        return Chooser(self.families, lawful)

    def suggest(self, trial: Suggester, base: TrialConfig) -> TrialConfig:
        """Return a configuration whose `PARTS` are drawn from `trial`; the rest is `base`'s."""
        parts: dict[str, Any] = {"backbone": self._backbone(trial)}
        for family, name in self.chooser.choose(trial).items():
            fields = self.families[family][name]
            parts[family] = FAMILIES[family][name].suggest(trial, f"{family}.{name}", fields)
        parts["augment"] = tuple(self._augment(trial))
        parts |= {key: dimension.draw(trial, key) for key, dimension in self.settings.items()}
        parts["training"] = {key: dim.draw(trial, f"training.{key}") for key, dim in self.training.items()}
        # Only the pairs that this configuration needs, whether the space allows them or a starting point.
        parts["allow"] = double_corrections(
            parts["loss"], parts["sampler"], parts["class_weights"], parts["posthoc"]
        )
        given = {key: getattr(base, key) for key in TrialConfig.model_fields if key not in parts}
        return validated(TrialConfig, given | parts)

    def _backbone(self, trial: Suggester) -> Backbone:
        names = self.backbones
        name = names[0] if len(names) == 1 else str(trial.suggest_categorical("backbone.name", names))
        fields = {**self.backbone, "name": pin(name)}
        for option, without in OPTIONS.items():
            if len(set(ends(fields[option]))) > 1 and not supports(name, option):
                fields[option] = pin(without)
        return Backbone.suggest(trial, "backbone", fields)

    def _augment(self, trial: Suggester) -> Iterator[Any]:
        for name, fields in self.always.items():
            yield AUGMENT[name].suggest(trial, f"augment.{name}", fields)
        for name, fields in self.optional.items():
            if trial.suggest_categorical(f"augment.{name}", (False, True)):
                yield AUGMENT[name].suggest(trial, f"augment.{name}", fields)

    def to_yaml(self) -> str:
        """Return the whole space, nothing inherited."""
        data = {"summary": self.summary, **self._plain()}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with whatever changes a suggestion."""
        return hashlib.sha256(json.dumps(self._plain()).encode()).hexdigest()[:16]

    def _plain(self) -> dict[str, object]:
        backbone = {"choices": list(self.backbones), **_plain_fields(self.backbone)}
        families = {
            key: {"choices": list(members), **_plain_members(members)} for key, members in self.families.items()
        }
        augment: dict[str, object] = {"always": list(self.always), "choices": list(self.optional)}
        augment |= _plain_members(self.always | self.optional)
        settings = _plain_fields(self.settings)
        return {
            "backbone": backbone,
            **families,
            "augment": augment,
            **settings,
            "training": _plain_fields(self.training),
            "allow": list(self.allow),
        }

    def parameters_of(self, config: TrialConfig) -> dict[str, Scalar]:
        """Return the parameters under which `suggest` returns the `PARTS` of `config`.

        A head that was found on frozen features stands, in a space without them, for loss, sampler,
        weights and post-hoc correction alone: a search of heads is a cheap first fidelity. The rest stays open.
        """
        config = self._in_own_threads(config)
        thawed = config.frozen.active and config.frozen.name not in self.families["frozen"]
        faced = self._faced_families(config, LEARNT_BY_HEADS) if thawed else self._faced(config)
        outside = [path for path, dim, value in faced if dim is None or not contains(dim, value)]
        if outside:
            raise UsageError(
                f"a starting point lies within the space, but {config.name or 'this one'} "
                f"does not: {', '.join(outside)}",
                "widen the space (--widen), or change these values",
            )
        names = tuple(getattr(config, family).name for family in RULED)
        whole = () if names in self.chooser.lawful else tuple(f"{family}.name" for family in RULED)
        reader = Reader(config, whole)
        if not thawed:
            self.suggest(reader, config)
            return reader.parameters
        for family, name in self.chooser.choose(reader).items():
            if family in LEARNT_BY_HEADS:
                FAMILIES[family][name].suggest(reader, f"{family}.{name}", self.families[family][name])
        return {key: value for key, value in reader.parameters.items() if key.split(".")[0] in LEARNT_BY_HEADS}

    def require_weights(self) -> None:
        """Refuse networks that start from trained weights which cannot be had."""
        pins = {key: ends(dimension) for key, dimension in self.backbone.items()}
        for name, pretrained, path in product(self.backbones, pins["pretrained"], pins["weights"]):
            check_backbone(Backbone(name=name, pretrained=pretrained, weights=path))
        for name, path in product(self.backbones, pins["weights"]):
            if path is not None:  # else every trial would fail alike
                check_weights(Backbone(name=name, weights=path))

    def at_random(self) -> DeclaredSpace:
        """Return the same space with random weights where it asks for trained ones."""
        return replace(self, backbone={**self.backbone, "pretrained": pin(False), "weights": pin(None)})

    def with_training(self, **fields: Scalar) -> DeclaredSpace:
        """Return the same space with these fields of `TrainingConfig` pinned.

        Raises:
            UsageError: If a value breaks its law, or goes with nothing else in the space.
        """
        from search_spaces.techniques import check_space

        validated(TrainingConfig, fields, "training")
        training = {**self.training, **{key: pin(value) for key, value in fields.items()}}
        check_space(self.families, self.backbones, self.backbone, self.always | self.optional, training)
        return replace(self, training=training)

    def _in_own_threads(self, config: TrialConfig) -> TrialConfig:
        """Return `config` without its threads, which were its slot's, unless this space asks for some."""
        if ends(self.training["threads"]) != ends(pin(None)):
            return config
        return config.model_copy(update={"training": config.training.model_copy(update={"threads": None})})

    def _faced(self, config: TrialConfig) -> Iterator[tuple[str, Dimension | None, object]]:
        """Yield each value of `config` with its path and the dimension that must contain it."""
        yield _path("backbone", config.backbone.name), Choices(self.backbones), config.backbone.name
        backbone = dict(self.backbone)
        for option, without in OPTIONS.items():
            left_out = getattr(config.backbone, option) == without and not contains(backbone[option], without)
            if left_out and not supports(config.backbone.name, option):
                backbone[option] = pin(without)
        yield from _facing("backbone", backbone, config.backbone)
        yield from self._faced_families(config, tuple(self.families))
        present = {op.name: op for op in config.augment}
        for name in self.always:
            yield _path("augment", f"no {name}"), pin(True), name in present
        for name, op in present.items():
            yield from _facing(f"augment.{name}", (self.always | self.optional).get(name), op)
        plain = config.model_dump(mode="json", include=set(self.settings))
        yield from ((_path(key, plain[key]), dim, plain[key]) for key, dim in self.settings.items())
        yield from _facing("training", self.training, config.training)

    def _faced_families(
        self, config: TrialConfig, families: tuple[str, ...]
    ) -> Iterator[tuple[str, Dimension | None, object]]:
        for family in families:
            part = getattr(config, family)
            yield from _facing(f"{family}.{part.name}", self.families[family].get(part.name), part)

    def widened(self, config: TrialConfig) -> DeclaredSpace:
        """Return the smallest space that holds this one and the `PARTS` of `config`."""
        config = self._in_own_threads(config)
        families = {
            family: _with(members, getattr(config, family)) for family, members in self.families.items()
        }
        present = {op.name: op for op in config.augment}
        always = {name: fields for name, fields in self.always.items() if name in present}
        optional = {**self.optional, **{name: self.always[name] for name in self.always if name not in present}}
        for name, op in present.items():
            if name in always:
                always = _with(always, op)
            else:
                optional = _with(optional, op)
        plain = config.model_dump(mode="json", include=set(self.settings))
        needed = double_corrections(config.loss, config.sampler, config.class_weights, config.posthoc)
        return replace(
            self,
            families=families,
            backbones=tuple(dict.fromkeys((*self.backbones, config.backbone.name))),
            backbone=_with({"": self.backbone}, config.backbone, "")[""],
            always=always,
            optional=optional,
            settings={key: widened(dim, plain[key]) for key, dim in self.settings.items()},
            training=_with({"": self.training}, config.training, "")[""],
            allow=tuple(dict.fromkeys((*self.allow, *needed))),
        )


def _plain_fields(fields: Fields) -> dict[str, object]:
    return {key: written(dimension) for key, dimension in fields.items()}


def _plain_members(members: Members) -> dict[str, object]:
    return {name: _plain_fields(fields) for name, fields in members.items() if fields}


def _path(key: str, value: object) -> str:
    return f"{key} = {value}"


def _facing(
    prefix: str, fields: Fields | None, part: BaseModel
) -> Iterator[tuple[str, Dimension | None, object]]:
    if fields is None:
        yield prefix, None, None
        return
    plain = part.model_dump(mode="json", exclude={"name"})
    yield from ((_path(f"{prefix}.{key}", value), fields[key], value) for key, value in plain.items())


def _with(members: Members, part: Any, name: str | None = None) -> Members:
    """Return `members` with what `part` is and has; a new member is pinned at what it has."""
    key = part.name if name is None else name
    fields = members.get(key, pinned_fields(part))
    plain = part.model_dump(mode="json", exclude={"name"})
    return {**members, key: {field: widened(dim, plain[field]) for field, dim in fields.items()}}


__all__ = ["PARTS", "DeclaredSpace"]

"""From YAML to a space: what it extends, and what its keys narrow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from analysis.errors import UsageError, unknown_name
from search_spaces.declared import DeclaredSpace
from search_spaces.dimensions import Fields, default_fields, ends, narrowed, pin
from search_spaces.families import FAMILIES, Members
from search_spaces.space import PARTS, SPACES
from search_spaces.techniques import check_space
from search_spaces.yaml_files import mapping, named_files
from trainable.augment import AUGMENT
from trainable.backbones import Backbone, check_backbone
from trainable.component import validated
from trainable.config import TrainingConfig, TrialConfig
from trainable.registry import Registry
from trainable.rules import known_rules

KEYS = ("extends", "summary", "allow", *PARTS)
ORIGIN = ("attention", "pretrained", "weights")
"""Fields of a backbone that may exclude each other."""


def read_space(text: str, where: str, source: str = "") -> DeclaredSpace:
    """Return the space that `text` describes.

    Raises:
        UsageError: With the key's path, the law or the nearest name, and the remedy.
    """
    data = mapping(text, where)
    try:
        space = _extended(data)
        for key in PARTS:
            if key in data:
                space = _NARROW.get(key, _family)(space, key, data[key])
        space = replace(space, allow=_allowed(space, data.get("allow", ())))
        space = replace(space, name=where, source=source or where, summary=str(data.get("summary", "")))
        _checked(space)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.remedy) from None
    return space


def _extended(data: Mapping[str, Any]) -> DeclaredSpace:
    for key in data:
        if key not in KEYS:
            raise unknown_name("key", key, KEYS)
    if "extends" not in data:
        return _opened(_defaults(), data)
    known = named_files(SPACES)
    if data["extends"] not in known:
        raise unknown_name("space in extends:", str(data["extends"]), known)
    return read_space(known[data["extends"]].read_text(encoding="utf-8"), data["extends"])


def _defaults() -> DeclaredSpace:
    """Return the space of one configuration: every part as a trial has it that says nothing."""
    trial = TrialConfig()
    return DeclaredSpace(
        name="",
        source="",
        summary="",
        families={key: {getattr(trial, key).name: _pinned(getattr(trial, key))} for key in FAMILIES},
        backbones=(trial.backbone.name,),
        backbone=_pinned(trial.backbone),
        always={},
        optional={},
        settings={"batch_size": pin(trial.batch_size)},
        training=_pinned(trial.training),
    )


def _opened(space: DeclaredSpace, data: Mapping[str, Any]) -> DeclaredSpace:
    """Return `space` with the parts that `data` speaks of at the ranges of their components."""
    families = {
        family: {name: default_fields(FAMILIES[family][name]) for name in members}
        if family in data
        else members
        for family, members in space.families.items()
    }
    backbone = default_fields(Backbone) if "backbone" in data else space.backbone
    return replace(space, families={**space.families, **families}, backbone=backbone)


def _pinned(part: Any) -> Fields:
    return {key: pin(value) for key, value in part.model_dump(mode="json", exclude={"name"}).items()}


def _family(space: DeclaredSpace, key: str, value: object) -> DeclaredSpace:
    members = _members(FAMILIES[key], space.families[key], value, key)
    return replace(space, families={**space.families, key: members})


def _members(registry: Registry[Any], now: Members, value: object, path: str) -> Members:
    """Return the members that `value` names, narrowed by its tables."""
    names, tables = _choices_and_tables(value, path, list(now))
    members = {name: now.get(name) or default_fields(registry[name]) for name in names}
    return _narrow_members(registry, members, tables, path)


def _choices_and_tables(value: object, path: str, now: list[str]) -> tuple[list[str], dict[str, Any]]:
    if isinstance(value, str):
        return [value], {}
    if isinstance(value, list):
        return _names(value, path), {}
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: must be a name, a list of names or a mapping, got {value!r}"[:300])
    tables = {str(key): table for key, table in value.items() if key != "choices"}
    return (_names(value["choices"], f"{path}.choices") if "choices" in value else now), tables


def _names(value: object, path: str, *, empty: bool = False) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{path}: must be a list of names, got {value!r}"[:300])
    if not value and not empty:
        raise UsageError(f"{path}: must hold at least one name, got []")
    return list(dict.fromkeys(value))


def _narrow_members(
    registry: Registry[Any], members: Members, tables: Mapping[str, object], path: str
) -> Members:
    narrowed_members = dict(members)
    for name, table in tables.items():
        if name not in members:
            _ = registry[name]  # an unknown name is refused as such, with the nearest one
            raise UsageError(
                f"{path}.{name}: only what may be chosen has parameters, and the choices are "
                f"{', '.join(members) or 'none'}",
                f"add {name} to {path}.choices",
            )
        narrowed_members[name] = narrowed(
            registry[name], members[name], table, f"{path}.{name}", extra={"name": name}
        )
    return narrowed_members


def _backbone(space: DeclaredSpace, key: str, value: object) -> DeclaredSpace:
    names, table = _choices_and_tables(value, key, list(space.backbones))
    fields = narrowed(Backbone, space.backbone, table, key, extra={"name": names[0]})
    return replace(space, backbones=tuple(names), backbone=fields)


def _augment(space: DeclaredSpace, key: str, value: object) -> DeclaredSpace:
    if isinstance(value, str | list):
        value = {"always": [value] if isinstance(value, str) else value, "choices": []}
    if not isinstance(value, Mapping):
        raise UsageError(f"{key}: must be a name, a list of names or a mapping, got {value!r}"[:300])
    chosen = {
        part: _names(value[part], f"{key}.{part}", empty=True) if part in value else list(now)
        for part, now in (("always", space.always), ("choices", space.optional))
    }
    if "always" not in value:
        chosen["always"] = [name for name in chosen["always"] if name not in chosen["choices"]]
    optional = [name for name in chosen["choices"] if name not in chosen["always"]]
    now = space.always | space.optional
    names = [*chosen["always"], *optional]
    members = {name: now.get(name) or default_fields(AUGMENT[name]) for name in names}
    tables = {str(name): table for name, table in value.items() if name not in ("always", "choices")}
    members = _narrow_members(AUGMENT, members, tables, key)
    return replace(
        space,
        always={name: members[name] for name in chosen["always"]},
        optional={name: members[name] for name in optional},
    )


def _batch_size(space: DeclaredSpace, key: str, value: object) -> DeclaredSpace:
    checked = narrowed(TrialConfig, {key: space.settings[key]}, {key: value}, "", extra={})
    return replace(space, settings={**space.settings, **checked})


def _training(space: DeclaredSpace, key: str, value: object) -> DeclaredSpace:
    return replace(space, training=narrowed(TrainingConfig, space.training, value, key, extra={}))


_NARROW = {"backbone": _backbone, "augment": _augment, "batch_size": _batch_size, "training": _training}


def _allowed(space: DeclaredSpace, names: object) -> tuple[str, ...]:
    if not isinstance(names, list | tuple):
        raise UsageError(f"allow: must be a list of rules, got {names!r}", "write `allow: [rule]`")
    known = known_rules()
    for name in names:
        if name not in known:
            raise unknown_name("rule in allow:", str(name), known)
    return tuple(dict.fromkeys((*space.allow, *names)))


def _checked(space: DeclaredSpace) -> None:
    """Refuse networks that do not exist or lack what is asked of them, and parts that exclude each other."""
    for values in product(*(ends(space.backbone[key]) for key in ORIGIN)):
        validated(Backbone, dict(zip(ORIGIN, values, strict=True)))
    for name in space.backbones:
        # What is searched is asked for only where the network has a place for it; a pin is meant for all.
        pins = {key: ends(dim)[0] for key, dim in space.backbone.items() if len(set(ends(dim))) == 1}
        check_backbone(validated(Backbone, {**pins, "name": name, "pretrained": False, "weights": None}))
    largest, smallest = max(ends(space.training["accumulate"])), min(ends(space.settings["batch_size"]))
    if largest > smallest:
        raise UsageError(
            f"training.accumulate: a batch is cut into at most batch_size parts, got {largest} for {smallest}"
        )
    check_space(space.families, space.backbones, space.backbone, space.always | space.optional, space.training)
    _ = space.chooser  # made now, so that a space without any combination is refused now

"""Dimensions as YAML writes them: `low/high[/log/step]` is a range, `choices` a list, a plain value a pin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast, get_args

from pydantic import BaseModel

from analysis.errors import UsageError, unknown_name
from trainable.component import Choices, Dimension, Range, Scalar, validated

RANGE_KEYS = ("low", "high", "log", "step")
Fields = dict[str, Dimension]
"""Every field of a model but its name, each with its dimension; a pin is a single choice."""


def pin(value: object) -> Choices:
    """Return the dimension that is always `value` (plain data; never asked for)."""
    return Choices((cast(Scalar, value),))


def default_fields(model: type[BaseModel]) -> Fields:
    """Return the dimensions that `model` declares beside its fields, the other fields at their defaults."""
    fields = pinned_fields(model())
    for key in fields:
        for entry in model.model_fields[key].metadata:
            if isinstance(entry, Range | Choices):
                fields[key] = entry
    return fields


def pinned_fields(values: BaseModel) -> Fields:
    """Return every field but the name, pinned at what `values` has."""
    return {key: pin(value) for key, value in values.model_dump(mode="json").items() if key != "name"}


def narrowed(
    model: type[BaseModel], fields: Fields, table: object, path: str, *, extra: Mapping[str, object]
) -> Fields:
    """Return `fields` with the keys of `table` in place of theirs, checked against the model's laws.

    Args:
        model: Whose fields they are.
        fields: What is narrowed.
        table: A YAML mapping from field names to ranges, choices or values.
        path: The table's place in the file, for messages.
        extra: Values of fields that a valid `model` needs besides (its name).

    Raises:
        UsageError: If a key is unknown, or a range or value breaks the model's law.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"{path}: must be a mapping of parameters, got {table!r}"[:300])
    changed = dict(fields)
    for key, given in table.items():
        at = _at(path, str(key))
        if key not in fields:
            raise unknown_name("key", at, [_at(path, known) for known in fields])
        changed[key] = _parsed(model, key, given, fields[key], at)
    return _lawful(model, changed, path, extra)


def _at(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _parsed(model: type[BaseModel], key: str, entry: object, now: Dimension, path: str) -> Dimension:
    if not isinstance(entry, Mapping):
        return pin(entry)
    if "choices" in entry:
        _only(entry, ("choices",), path)
        return _choices(entry["choices"], f"{path}.choices")
    if not set(RANGE_KEYS) & set(entry):
        return pin(dict(entry))
    _only(entry, RANGE_KEYS, path)
    known = {k: getattr(now, k) for k in ("low", "high", "log")} if isinstance(now, Range) else {}
    given = known | dict(entry)
    missing = [k for k in ("low", "high") if k not in given]
    if missing:
        raise UsageError(f"{path}: a range has low and high, but {missing[0]} is missing")
    return _range(model, key, given, path)


def _choices(values: object, path: str) -> Choices:
    if not isinstance(values, list) or not values:
        raise UsageError(f"{path}: must be a list with at least one value, got {values!r}")
    if len(values) > 1 and not all(
        value is None or isinstance(value, bool | int | float | str) for value in values
    ):
        raise UsageError(f"{path}: must hold plain values where there are several, got {values!r}"[:300])
    return Choices(tuple(values))


def _range(model: type[BaseModel], key: str, given: Mapping[str, Any], path: str) -> Dimension:
    kinds = {model.model_fields[key].annotation, *get_args(model.model_fields[key].annotation)}
    if not kinds & {int, float}:
        raise UsageError(f"{path}: only a number has a range", f"write `{path}: {{choices: […]}}`")
    numbers = {k: _number(given[k], f"{path}.{k}") for k in ("low", "high", "step") if given.get(k) is not None}
    if float not in kinds:
        uneven = [k for k, value in numbers.items() if value != int(value)]
        if uneven:
            raise UsageError(f"{path}.{uneven[0]}: must be a whole number, got {given[uneven[0]]}")
        numbers = {k: int(value) for k, value in numbers.items()}
    low, high, step, log = numbers["low"], numbers["high"], numbers.get("step"), given.get("log", False)
    if not isinstance(log, bool):
        raise UsageError(f"{path}.log: must be true or false, got {log!r}")
    if low > high:
        raise UsageError(f"{path}: low must be at most high, got {low} and {high}")
    if log and (low <= 0 or step is not None):
        raise UsageError(f"{path}: a logarithmic range has low above 0 and no step, got {dict(given)}")
    if step is not None and (step <= 0 or not math.isclose((high - low) / step, round((high - low) / step))):
        raise UsageError(f"{path}.step: must be above 0 and divide {high} - {low}, got {step}")
    return pin(low) if low == high else Range(low, high, log=log, step=step)


def _number(value: object, path: str) -> float:
    try:
        number = float(cast(str, value))  # YAML 1.1 reads 1e-3 as text
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise UsageError(f"{path}: must be a finite number, got {value!r}")
    return number


def _only(entry: Mapping[Any, object], known: Iterable[str], path: str) -> None:
    for key in entry:
        if key not in known:
            raise unknown_name("key", f"{path}.{key}", [f"{path}.{each}" for each in known])


def _lawful(model: type[BaseModel], fields: Fields, path: str, extra: Mapping[str, object]) -> Fields:
    """Check every end of every dimension, each with all others at their low and at their high ends."""
    plain: Fields = {}
    for position in (-1, 0):
        others = {key: ends(dimension)[position] for key, dimension in fields.items()}
        for key, dimension in fields.items():
            values = [_plain(model, {**extra, **others, key: value}, key, path) for value in ends(dimension)]
            plain[key] = dimension if isinstance(dimension, Range) else _distinct(values)
    return plain


def _distinct(values: list[Any]) -> Choices:
    return Choices(tuple(value for i, value in enumerate(values) if value not in values[:i]))


def _plain(model: type[BaseModel], data: dict[str, object], key: str, path: str) -> Any:
    try:
        return validated(model, data).model_dump(mode="json")[key]
    except UsageError as error:
        raise UsageError(_at(path, error.message), error.remedy) from None


def ends(dimension: Dimension) -> tuple[Any, ...]:
    """Return the values that decide whether all of `dimension` is lawful."""
    return dimension.values if isinstance(dimension, Choices) else (dimension.low, dimension.high)


def contains(dimension: Dimension, value: object) -> bool:
    """Return whether `dimension` can give `value` (plain data)."""
    if isinstance(dimension, Choices):
        return any(value == choice and type(value) is type(choice) for choice in dimension.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    steps = (value - dimension.low) / (dimension.step or 1)
    whole = dimension.step is None or math.isclose(steps, round(steps), abs_tol=1e-9)
    return dimension.low <= value <= dimension.high and whole


def widened(dimension: Dimension, value: Any) -> Dimension:
    """Return the smallest dimension that gives `value` and all that `dimension` gives."""
    if contains(dimension, value):
        return dimension
    if isinstance(dimension, Choices):
        return Choices((*dimension.values, value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"a range of numbers cannot be widened to {value!r}")
    low, high = min(dimension.low, value), max(dimension.high, value)
    return Range(low, high, log=dimension.log and low > 0)


def written(dimension: Dimension) -> object:
    """Return `dimension` as YAML has it."""
    if isinstance(dimension, Choices):
        values = list(dimension.values)
        return values[0] if len(values) == 1 else {"choices": values}
    step = {} if dimension.step is None else {"step": dimension.step}
    return {"low": dimension.low, "high": dimension.high, "log": dimension.log, **step}

"""What every component is: a frozen config that says what it is and what of it may be searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from analysis.errors import TailtuneError, UsageError, unknown_name

Scalar = bool | int | float | str | None


class Suggester(Protocol):
    """The part of `optuna.Trial` that a component needs; this floor does not import Optuna."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """As `optuna.Trial.suggest_float`."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """As `optuna.Trial.suggest_int`."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """As `optuna.Trial.suggest_categorical`."""
        ...


@dataclass(frozen=True)
class Range:
    """A numeric dimension of the search, both ends included; whole numbers where the field is an int."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def draw(self, trial: Suggester, name: str) -> Scalar:
        """Return the value that `trial` suggests under `name`."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(name, self.low, self.high, step=step, log=self.log)
        return trial.suggest_float(name, float(self.low), float(self.high), step=self.step, log=self.log)


@dataclass(frozen=True)
class Choices:
    """A categorical dimension of the search; one value alone is a pin and is never asked for."""

    values: tuple[Scalar, ...]

    def draw(self, trial: Suggester, name: str) -> Scalar:
        """Return the value that `trial` suggests under `name`, or the only one that there is."""
        return self.values[0] if len(self.values) == 1 else trial.suggest_categorical(name, self.values)


Dimension = Range | Choices
"""Declared beside a field: `gamma: Annotated[float, Field(ge=0), Range(0.5, 4.0)] = 2.0`."""


class Frozen(BaseModel):
    """An immutable record with known keys and finite numbers only."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )


class Component(Frozen):
    """A frozen config with its law (field constraints), its search range and its reference.

    A subclass fixes `name: Literal["..."] = "..."`, annotates the fields that a search may vary with a
    `Range` or `Choices`, and has a `build(...)` whose signature its family defines.
    """

    reference: ClassVar[str] = ""
    """Authors, year, arXiv id, equation; empty for folklore."""

    corrects_imbalance: ClassVar[bool] = False
    """True where the component by itself shifts training towards rare classes (see `config.allow`)."""

    @classmethod
    def dimensions(cls) -> dict[str, Dimension]:
        """Return the default search dimension of each field that has one, by field name."""
        return {
            key: next(m for m in field.metadata if isinstance(m, Range | Choices))
            for key, field in cls.model_fields.items()
            if any(isinstance(m, Range | Choices) for m in field.metadata)
        }

    @classmethod
    def suggest(cls, trial: Suggester, prefix: str, dimensions: Mapping[str, Dimension] | None = None) -> Self:
        """Draw each searched field from `trial` under `{prefix}.{field}`; the others keep their defaults.

        Args:
            trial: An Optuna trial, or anything with its three `suggest_*` methods.
            prefix: Put before each parameter's name, for example `loss.focal`.
            dimensions: Replaces `cls.dimensions()`, as a narrowed space does.
        """
        wanted = cls.dimensions() if dimensions is None else dimensions
        return cls(**{key: wanted[key].draw(trial, f"{prefix}.{key}") for key in wanted})


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], data: object, where: str = "") -> M:
    """Return `data` as a `model`, or raise one line that names the key's path, its law and its value.

    Args:
        model: The pydantic model to make.
        data: A mapping as read from YAML or JSON, or an instance of `model`.
        where: Name of the file or object that `data` came from, for the message.

    Raises:
        UsageError: If a key is unknown, missing, or its value breaks a law.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _one_line(error, model, where) from None


def _one_line(error: ValidationError, model: type[BaseModel], where: str) -> TailtuneError:
    first = error.errors()[0]
    prefix = f"{where}: " if where else ""
    path = ".".join(str(part) for part in first["loc"])
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, TailtuneError):
        at = f"{path}: " if path and not inner.message.startswith(path) else ""
        return UsageError(f"{prefix}{at}{inner.message}", inner.remedy)
    if first["type"] == "extra_forbidden":
        refused = unknown_name("key", path, _keys(model, first["loc"]))
        return UsageError(f"{prefix}{refused.message}", refused.remedy)
    value = "" if first["type"] == "missing" else f", got {first['input']!r}"
    law = first["msg"][0].lower() + first["msg"][1:]
    return UsageError(f"{prefix}{path or model.__name__}: {law}{value}"[:400])


def _keys(model: type[BaseModel], loc: Sequence[Any]) -> list[str]:
    """Return the dotted keys that were possible where `loc` ends."""
    current: object = model
    for part in loc[:-1]:
        field = getattr(current, "model_fields", {}).get(part)
        annotation = None if field is None else field.annotation
        current = annotation if isinstance(annotation, type) else None
    base = ".".join(str(part) for part in loc[:-1])
    return [f"{base}.{key}" if base else key for key in getattr(current, "model_fields", {})]

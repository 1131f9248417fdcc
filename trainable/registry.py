"""Names and the components that answer to them: one registry a family, filled by its folder's files."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from analysis.errors import UsageError, unknown_name
from trainable.component import Component, validated

C = TypeVar("C", bound=Component)


class Registry(Generic[C]):
    """The components of one family by name.

    Args:
        family: What the family is called in messages and parameter names, for example `loss`.
        base: The class that every member inherits from.
    """

    def __init__(self, family: str, base: type[C]) -> None:
        self.family = family
        self.base = base
        self._members: dict[str, type[C]] = {}

    def add(self, member: type[C]) -> type[C]:
        """Enrol `member` under its own name (a class decorator).

        Raises:
            ValueError: If the name is taken by another class.
        """
        name = member.model_fields["name"].default
        taken = self._members.get(name)
        if taken is not None and taken.__qualname__ != member.__qualname__:
            raise ValueError(f"{self.family} '{name}' is already {taken.__module__}.{taken.__qualname__}")
        self._members[name] = member
        return member

    def discover(self, package: str, path: list[str]) -> None:
        """Import every module of a family's folder, so that each enrols what it defines."""
        for module in pkgutil.iter_modules(path):
            importlib.import_module(f"{package}.{module.name}")

    def __getitem__(self, name: str) -> type[C]:
        """Return the class called `name`.

        Raises:
            UsageError: If nothing answers to it, with the nearest name that something does.
        """
        if name not in self._members:
            raise unknown_name(self.family.replace("_", " "), name, self._members)
        return self._members[name]

    def __iter__(self) -> Iterator[type[C]]:
        return iter([self._members[name] for name in sorted(self._members)])

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def names(self) -> list[str]:
        """Return every name, sorted."""
        return sorted(self._members)

    def parse(self, value: object) -> C:
        """Return the member that `value` describes: itself, its bare name, or a mapping with a `name`.

        Raises:
            UsageError: If the name is missing or unknown, or a parameter is not the component's.
        """
        if isinstance(value, self.base):
            return value
        if isinstance(value, str):
            return self[value]()
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            return validated(self[value["name"]], dict(value))
        raise UsageError(
            f"{self.family} must be a name or a mapping with a name, got {value!r}"[:300],
            f"write `{self.family}: {self.names()[0]}` or `{self.family}: {{name: {self.names()[0]}}}`",
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.model_dump(mode="json")),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"oneOf": [member.model_json_schema() for member in self]}

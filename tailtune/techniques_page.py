"""`docs/techniques.md`, made from the registries: every component with its parameters, laws, ranges and source.

python -m tailtune.techniques_page > docs/techniques.md
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from search_spaces.families import FAMILIES
from trainable.augment import AUGMENT
from trainable.backbones import Backbone
from trainable.backbones.families import FAMILIES as NETWORKS
from trainable.component import Choices, Component, Range

IDS: Mapping[str, str] = {
    "loss": "C2",
    "class_weights": "C3",
    "sampler": "C4",
    "augment": "C5",
    "mixing": "C5",
    "optimizer": "C6",
    "schedule": "C7",
    "averaging": "C8",
    "tta": "C10",
    "posthoc": "C10",
}
"""Rows of the list of what has to exist; the families of training techniques are all C9."""
TECHNIQUES = "C9"

HEAD = """# Techniques

Made by `python -m tailtune.techniques_page`; a test fails where this page is stale. Every component is a choice
that a search can make (`search_spaces/`), and each has one file in its family's folder under `trainable/`.
*law* is what a value must obey; *range* is what a search tries unless a space says otherwise, and a parameter
without one stays at its default.
"""


BACKBONES = """
## C1 `backbone`

Every classifier of timm and torchvision works by its name, and so do the networks of this package. Parameters,
operations and images a second of each member of these families stand in [backbones.md](backbones.md).

| family | names |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    families: dict[str, Iterable[type[Component]]] = {**FAMILIES, "augment": AUGMENT}
    ordered = sorted(families, key=lambda name: (int(IDS.get(name, TECHNIQUES)[1:]), name))
    parts = [HEAD, _backbones()]
    for name in ordered:
        parts.append(f"\n## {IDS.get(name, TECHNIQUES)} `{name}`\n")
        parts += [_component(member) for member in families[name]]
    return "".join(parts)


def _backbones() -> str:
    """Return the families of networks with the names that build them, and what a configuration may say."""
    rows = [f"| {family.name} | {', '.join(f'`{name}`' for name in family.names)} |\n" for family in NETWORKS]
    table = ["\n| parameter | default | law | range |\n|---|---|---|---|\n", *_rows(Backbone)]
    return "".join((BACKBONES, *rows, *table))


def _component(member: type[Component]) -> str:
    name = member.model_fields["name"].default
    lines = [f"\n### `{name}`\n{_summary(member)}\n"]
    if member.reference:
        lines.append(f"Reference: {member.reference}\n")
    rows = list(_rows(member))
    if rows:
        lines.append("\n| parameter | default | law | range |\n|---|---|---|---|\n")
        lines += rows
    return "".join(lines)


def _summary(member: type[Component]) -> str:
    """Return the docstring's first paragraph on one line."""
    text = inspect.getdoc(member) or ""
    return " ".join(text.split("\n\n")[0].split())


def _rows(member: type[Component]) -> Iterator[str]:
    for key, field in member.model_fields.items():
        if key == "name":
            continue
        dimension = next((entry for entry in field.metadata if isinstance(entry, Range | Choices)), None)
        cells = (
            f"`{key}`",
            _value(field.get_default(call_default_factory=True)),
            _law(field),
            _range(dimension),
        )
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _law(field: FieldInfo) -> str:
    signs = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
    # The law of `Annotated[float, Field(ge=0)] | None`, or of a tuple of them, stands within.
    inner = [part for choice in get_args(field.annotation) for part in get_args(choice)]
    within = [part for part in inner if isinstance(part, FieldInfo)]
    bounds = [
        f"{sign} {getattr(entry, key):g}"
        for entry in chain(field.metadata, *(part.metadata for part in within))
        for kind, key, sign in signs
        if isinstance(entry, kind)
    ]
    law = ", ".join(bounds)
    if law and within:
        return f"{law}, or None" if type(None) in get_args(field.annotation) else f"each {law}"
    return law or _type(field)


def _type(field: FieldInfo) -> str:
    annotation = field.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"typing\.|\bNoneType\b", lambda found: "None" if found[0] == "NoneType" else "", text)


def _range(dimension: Range | Choices | None) -> str:
    if dimension is None:
        return ""
    if isinstance(dimension, Choices):
        return ", ".join(_value(value) for value in dimension.values)
    notes = ", log" if dimension.log else ""
    notes += f", step {dimension.step:g}" if dimension.step else ""
    return f"{dimension.low:g} to {dimension.high:g}{notes}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())

"""An audit as people read it in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from tailtune.tables import console

if TYPE_CHECKING:
    from analysis.audit import Audit

MOST = 12
"""Lines of a list that are shown."""


def show_audit(found: Audit) -> None:
    """Print counts, classes, copies, what to trust and what is suggested."""
    document = found.to_json()
    parts = ", ".join(f"{count:,} {part}" for part, count in document["parts"].items() if count)
    groups = ", ".join(f"{count} {name}" for name, count in document["groups"].items())
    height, width = found.spread["height"], found.spread["width"]
    facts = (
        ("images", f"{document['num_images']:,} ({parts})"),
        ("classes", f"{document['num_classes']} ({groups}), imbalance ratio {found.imbalance_ratio:.1f}"),
        ("sizes", f"{height[0]:g}x{width[0]:g} … {height[1]:g}x{width[1]:g} … {height[2]:g}x{width[2]:g}"),
        ("copies", _copies(found)),
        ("resolvable", f"macro-F1 differences of {found.resolvable:.3f} or more on this validation split"),
        ("fingerprint", found.fingerprint),
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts:
        table.add_row(name, Text(value))
    for suggestion in found.suggestions:
        table.add_row(suggestion.option, Text(f"{suggestion.value}: {suggestion.reason}"))
    screen = console()
    screen.print(Text(found.source, style="bold"))
    screen.print(table)
    _classes(found)
    crossing = [c for c in found.copies if c.across_labels or c.across_splits]
    _list(
        "copies across labels or parts",
        [f"{c.kind}: " + " = ".join(c.paths[:3]) + (" …" if len(c.paths) > 3 else "") for c in crossing],
    )
    _list("classes not to be trusted", [f"{name}: {reason}" for name, reason in found.untrusted])
    _list("files left out", [f"{path}: {reason}" for path, reason in found.skipped])
    _list("notes", list(found.notes))


def _copies(found: Audit) -> str:
    counted = []
    for kind in ("exact", "near"):
        sets = [c for c in found.copies if c.kind == kind]
        across = sum(c.across_labels for c in sets), sum(c.across_splits for c in sets)
        counted.append(f"{len(sets)} {kind} sets ({across[0]} across labels, {across[1]} across parts)")
    return ", ".join(counted)


def _classes(found: Audit) -> None:
    """Print the largest and the smallest classes."""
    order = sorted(found.class_counts.items(), key=lambda entry: -entry[1])
    shown = order if len(order) <= MOST else [*order[: MOST // 2], *order[-MOST // 2 :]]
    numbers = {name: label for label, name in enumerate(found.class_counts)}
    table = Table(
        title="largest and smallest classes" if len(order) > MOST else "classes", title_justify="left"
    )
    table.add_column("class")
    for part in ("train", "val", "test"):
        table.add_column(part, justify="right")
    for name, _ in shown:
        each = (str(found.part_counts[part][numbers[name]]) for part in ("train", "val", "test"))
        table.add_row(Text(name), *each)
    console().print(table)


def _list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    screen = console()
    screen.print(f"[bold]{title}[/] ({len(lines)})")
    for line in lines[:MOST]:
        screen.print(Text(f"  {line}"))
    if len(lines) > MOST:
        screen.print(f"  … and {len(lines) - MOST} more (--json has all)")

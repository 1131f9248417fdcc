"""Options that several commands share, and the readers of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
Home = Annotated[
    Path, typer.Option("--home", envvar="TAILTUNE_HOME", help="Folder that holds the studies.", metavar="DIR")
]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study in the home.")]
Data = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder, CSV manifest, .npz or built-in name (digits-lt).")
]
ImageSize = Annotated[
    str | None, typer.Option("--image-size", metavar="HxW", help="Height and width; the data's own by default.")
]

GroupBy = Annotated[
    str | None, typer.Option("--group-by", metavar="REGEX", help="Keeps near-copies on one side of the split.")
]
NoPretrained = Annotated[
    bool, typer.Option("--no-pretrained", help="Start from random weights where trained ones are asked for.")
]
Folds = Annotated[
    str | None,
    typer.Option("--folds", metavar="K|auto", help="Cross-validate each trial in K folds; auto: 2 or 3."),
]
LongTail = Annotated[
    float | None,
    typer.Option("--long-tail", metavar="IR", help="Cut the training images to this imbalance ratio."),
]
LongTailSeed = Annotated[
    int | None, typer.Option("--long-tail-seed", help="Chooses which images stay under --long-tail.")
]
RareClasses = Annotated[
    str | None, typer.Option("--rare-classes", help="keep, merge or drop classes below --rare-below.")
]
RareBelow = Annotated[
    int | None, typer.Option("--rare-below", metavar="N", help="Classes with fewer training images are rare.")
]
AllowOutside = Annotated[
    bool | None, typer.Option("--allow-outside", help="Let a manifest's paths leave its folder.")
]
VerifyContent = Annotated[
    bool | None, typer.Option("--verify-content", help="Know files by their bytes, not their times.")
]
MaxBroken = Annotated[
    float | None, typer.Option("--max-broken", metavar="SHARE", help="More broken files are an error.")
]

DEFAULT_HOME = Path("runs")


def image_size(text: str | None) -> tuple[int, int] | None:
    """Return height and width of `HxW` (or of one number, for a square).

    Raises:
        UsageError: If the text is neither.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", text.strip())
    if found is None:
        raise UsageError(f"--image-size must be HxW in pixels, got '{text}'", "write for example 48x48")
    return int(found[1]), int(found[2] or found[1])


def folds(text: str | None) -> int | str | None:
    """Return a number of folds, or `auto`.

    Raises:
        UsageError: If the text is neither.
    """
    if text is None or text == "auto":
        return text
    if not re.fullmatch(r"[1-9]\d{0,2}", text):
        raise UsageError(f"--folds must be a number from 1 or 'auto', got '{text}'")
    return int(text)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, by the name of their field in `DataConfig`; defaults live there."""
    return {name: value for name, value in options.items() if value is not None}


def duration(text: str | None) -> float | None:
    """Return the seconds in `90s`, `30m`, `2h`, `1h30m` or a bare number of seconds.

    Raises:
        UsageError: If the text is no duration above zero.
    """
    if text is None:
        return None
    compact = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        compact += "s"
    well_formed = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])+", compact) is not None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", compact) if well_formed else []
    seconds = sum(float(value) * _UNITS[unit] for value, unit in parts)
    if seconds <= 0:
        raise UsageError(
            f"--time-budget must be a duration above zero, got '{text}'", "write for example 90s, 30m or 2h"
        )
    return seconds

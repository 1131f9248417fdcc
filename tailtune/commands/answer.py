"""One way out: a command's answer as a JSON document, or as something for people to read."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def answer(
    produce: Callable[[], T],
    *,
    as_json: bool,
    show: Callable[[T], None],
    document: Callable[[T], Any] = lambda value: value,
) -> T:
    """Run a verb and print what it returns.

    Args:
        produce: The verb. Whatever else it prints under `--json` is sent to stderr.
        as_json: Print one JSON document instead of calling `show`.
        show: Prints the result for people.
        document: Makes the result JSON's; the result itself by default.
    """
    if not as_json:
        result = produce()
        show(result)
        return result
    with contextlib.redirect_stdout(sys.stderr):
        result = produce()
        text = to_json(document(result))
    print(text, flush=True)
    return result


def to_json(document: Any) -> str:
    """Return strict JSON (no NaN), paths and dates as text."""
    return json.dumps(document, indent=2, default=str, allow_nan=False, ensure_ascii=False)

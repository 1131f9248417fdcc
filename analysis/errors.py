"""The one error that users see: what the law is, what was found, what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_LISTED = 24
"""Of known names, in one line."""


class TailtuneError(ValueError):
    """A mistake that its reader can mend.

    Args:
        message: The law and the actual value, in one line.
        remedy: What to do about it, in one line; empty where the message says it all.
        exit_status: 2 for wrong use (a bad name, value or option), 1 for everything else.
    """

    def __init__(self, message: str, remedy: str = "", *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_status = exit_status

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.remedy, self.exit_status))


class UsageError(TailtuneError):
    """Wrong use: an unknown name, an illegal value, an impossible combination (exit status 2)."""

    def __init__(self, message: str, remedy: str = "", *, exit_status: int = 2) -> None:
        super().__init__(message, remedy, exit_status=exit_status)


def _rebuild(cls: type[TailtuneError], message: str, remedy: str, exit_status: int) -> TailtuneError:
    return cls(message, remedy, exit_status=exit_status)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that nothing answers to, with the nearest one that something does.

    >>> str(unknown_name("loss", "focl", ["cross_entropy", "focal"]))
    "unknown loss 'focl'; did you mean 'focal'? (known: cross_entropy, focal)"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    near.sort(key=lambda other: _unpadded(other) != _unpadded(name))  # cifar-1 is cifar-01, not cifar-11
    if len(names) <= MOST_LISTED:
        listed = f"known: {', '.join(names)}"
    else:
        listed = f"{len(names)} are known, {names[0]} to {names[-1]}"
    hint = f"did you mean '{near[0]}'? ({listed})" if near else listed
    return UsageError(f"unknown {kind} '{name}'", hint)


def _unpadded(name: str) -> str:
    """Return `name` without zeros before its numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", name)

"""The face: command line and Python API; wires Ray Tune, Optuna and storage.

The verbs of the command line are functions here: `tailtune.search(...)` returns a `Study`. They are
imported when they are first used, so that `import tailtune` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailtune.api import (
        dashboard,
        data,
        doctor,
        estimate,
        export,
        lr_find,
        rank,
        recipes,
        resume,
        search,
        spaces,
        status,
        stop,
        train,
    )

__version__ = "0.1.0"

__all__ = [
    "dashboard",
    "data",
    "doctor",
    "estimate",
    "export",
    "lr_find",
    "rank",
    "recipes",
    "resume",
    "search",
    "spaces",
    "status",
    "stop",
    "train",
]


class _Verb:
    """A function of `tailtune.api`, imported when it is asked for.

    Several verbs share their name with the module that does their work, and importing
    `tailtune.search` makes Python put that module into this package under the name `search`. A data
    descriptor on the package's class comes first, so `tailtune.search` is the verb at all times
    (`from tailtune.search import …` finds the module all the same).
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, package: object, owner: type | None = None) -> Any:
        return getattr(importlib.import_module("tailtune.api"), self.name)

    def __set__(self, package: object, module: object) -> None:
        """Let the import system's assignment pass without effect."""


sys.modules[__name__].__class__ = type("Face", (ModuleType,), {name: _Verb(name) for name in __all__})

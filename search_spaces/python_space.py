"""A space written as a Python function of an Optuna trial."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from analysis.errors import UsageError, unknown_name
from search_spaces.space import PARTS, SearchSpace
from trainable.component import Scalar, Suggester, validated
from trainable.config import TrialConfig


class PythonSpace(SearchSpace):
    """A function that takes an Optuna trial and returns a `TrialConfig`, or a mapping with some of `PARTS`.

    What a mapping does not name stays as the run has it. Of a `TrialConfig` the `PARTS` and `allow` are
    taken: epochs, seed, name and the data's geometry are the run's.

    Args:
        name: `module:function`.
        function: The function.
        text: Its module's source, of which the fingerprint is taken.
    """

    def __init__(self, name: str, function: Callable[[Any], object], text: str) -> None:
        self.name = self.source = name
        self.summary = (inspect.getdoc(function) or "").split("\n")[0]
        self._function, self._text = function, text

    @classmethod
    def load(cls, module: str, function: str) -> PythonSpace:
        """Import `module` (a dotted name, or a file that ends in .py) and take `function` from it.

        Raises:
            UsageError: If there is no such module or function, or the import fails.
        """
        try:
            found = _imported(module)
            text = inspect.getsource(found)
        # A user's module may fail in any way while it is imported.
        except Exception as error:
            raise UsageError(
                f"cannot import {module}, the module of space {module}:{function}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from None
        target = getattr(found, function, None)
        if not callable(target):
            known = [name for name, _ in inspect.getmembers(found, inspect.isfunction)]
            raise unknown_name(f"function in {module}", function, known)
        return cls(f"{module}:{function}", target, text)

    def suggest(self, trial: Suggester, base: TrialConfig) -> TrialConfig:
        """Return what the function returns, on top of `base`."""
        returned = self._function(trial)
        if isinstance(returned, TrialConfig):
            returned = {key: getattr(returned, key) for key in (*PARTS, "allow")}
        if not isinstance(returned, Mapping):
            raise UsageError(
                f"{self.name} must return a TrialConfig or a mapping of its parts, "
                f"got {type(returned).__name__}"
            )
        for key in returned:
            if key not in (*PARTS, "allow"):
                refused = unknown_name(f"part returned by {self.name}:", str(key), (*PARTS, "allow"))
                raise UsageError(refused.message, f"{refused.remedy}; the run decides everything else")
        given = {key: getattr(base, key) for key in TrialConfig.model_fields}
        return validated(TrialConfig, given | dict(returned), self.name)

    def to_yaml(self) -> str:
        """Return nothing: the function is the space, and is found by its name again."""
        return ""

    def fingerprint(self) -> str:
        """Return 16 hex digits of the module's text and the function's name."""
        return hashlib.sha256(f"{self.name}\n{self._text}".encode()).hexdigest()[:16]

    def require_weights(self) -> None:
        """Do nothing: which networks a function will name is not known before it is called."""

    def parameters_of(self, config: TrialConfig) -> dict[str, Scalar]:
        """Refuse: a function cannot be turned round."""
        raise UsageError(
            f"only a space in YAML takes starting points, and {self.name} is a Python function",
            "write the space in YAML, or let the function name the starting point's values",
        )

    def widened(self, config: TrialConfig) -> SearchSpace:
        """Refuse: only its author can widen a function."""
        raise UsageError(f"only a space in YAML can be widened, and {self.name} is a Python function")

    def at_random(self) -> SearchSpace:
        """Refuse: only its author knows what a function asks for."""
        raise UsageError(
            f"only a space in YAML can be told --no-pretrained, and {self.name} is a Python function",
            "have it suggest `pretrained=False`",
        )

    def with_training(self, **fields: Scalar) -> SearchSpace:
        """Refuse: only its author knows what a function returns."""
        raise UsageError(
            f"only a space in YAML can be told {' and '.join(fields)}, and {self.name} is a Python function",
            "have it return them under `training`",
        )


def _imported(module: str) -> ModuleType:
    if not module.endswith(".py"):
        here = str(Path.cwd())
        sys.path.insert(0, here)
        try:
            return importlib.import_module(module)
        finally:
            sys.path.remove(here)
    path = Path(module)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {module}")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found

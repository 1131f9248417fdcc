"""Changes to a configuration from the command line: `optimizer.lr=0.1`, `loss=focal`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from analysis.errors import UsageError, unknown_name
from trainable.component import validated
from trainable.config import TrialConfig


def overridden(config: TrialConfig, changes: Iterable[str]) -> TrialConfig:
    """Return `config` with each `KEY=VALUE` applied in turn; values are read as YAML.

    Raises:
        UsageError: If a change has no `=`, its key is unknown, or its value breaks a law.
    """
    data = config.model_dump(mode="json")
    for change in changes:
        path, value = _parse(change)
        _put(data, path, value, change)
    return validated(TrialConfig, data, "--set")


def _parse(change: str) -> tuple[list[str], Any]:
    key, equals, text = change.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes KEY=VALUE, got '{change}'", "write for example --set optimizer.lr=0.1")
    try:
        return key.strip().split("."), yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {key}: the value must be plain YAML, got '{text}'") from None


def _put(data: dict[str, Any], path: list[str], value: Any, change: str) -> None:
    """Write `value` where `path` leads; a component's bare name replaces the component."""
    here = data
    for depth, part in enumerate(path[:-1]):
        if part not in here:
            raise unknown_name("key", ".".join(path[: depth + 1]), here)
        below = here[part] if here[part] is not None else {}
        if depth == 0 and isinstance(below, str):  # a component that a change before this one named
            below = {"name": below}
        if not isinstance(below, dict):
            raise UsageError(f"--set {change}: '{'.'.join(path[: depth + 1])}' holds one value and no keys")
        here[part] = below
        here = below
    here[path[-1]] = value

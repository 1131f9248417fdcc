"""YAML as text that runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from analysis.errors import UsageError


def named_files(folder: Path) -> dict[str, Path]:
    """Return the YAML files of `folder` by their stems, sorted."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def mapping(text: str, where: str) -> dict[str, Any]:
    """Return the mapping that `text` holds.

    Raises:
        UsageError: If it is no YAML, wants to run code, or holds something else.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())[:200]
        raise UsageError(f"{where}: must be plain YAML without code: {problem}") from None
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise UsageError(f"{where}: must be a mapping of names to values, got {type(data).__name__}")
    return data


def read_mapping(path: Path) -> tuple[dict[str, Any], str]:
    """Return the mapping in the file at `path`, and its text.

    Raises:
        UsageError: If it cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: must be a readable YAML file: {error}") from None
    return mapping(text, str(path)), text

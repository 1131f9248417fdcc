from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.declared import DeclaredSpace
from search_spaces.narrow import read_space


@pytest.fixture
def space_file(tmp_path: Path) -> Callable[[str], str]:
    """Write a space and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture(scope="session")
def read() -> Callable[[str], DeclaredSpace]:
    return lambda text: read_space(text, "mine")

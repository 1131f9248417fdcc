"""The page of techniques is made, not written, and holds every component."""

from __future__ import annotations

from pathlib import Path

from search_spaces.families import FAMILIES
from tailtune.techniques_page import page
from trainable.augment import AUGMENT

PAGE = Path(__file__).parents[2] / "docs" / "techniques.md"


def test_the_committed_page_is_what_the_registries_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run `python -m tailtune.techniques_page > docs/techniques.md`"
    )


def test_every_component_stands_under_its_id_with_its_parameters() -> None:
    text = page()
    for registry in (*FAMILIES.values(), AUGMENT):
        for name in registry.names():
            assert f"### `{name}`\n" in text
    for row in ("C2", "C3", "C4", "C5", "C6", "C7", "C8", "C10"):
        assert f"\n## {row} `" in text
    assert "| `gamma` | 2 | ≥ 0, ≤ 20 | 0.5 to 4 |" in text
    assert "Lin et al. 2017, arXiv 1708.02002" in text

"""docs/backbones.md says what the code builds."""

from pathlib import Path

import pytest

from trainable.backbones.families import FAMILIES
from trainable.backbones.page import page_row, rows_of

PAGE = Path(__file__).parents[3] / "docs" / "backbones.md"
CHEAP = ("ResNet", "wide ResNet", "SqueezeNet", "MobileNet v2")


def test_every_name_of_every_family_has_its_line() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for family in FAMILIES:
        for name in family.names:
            assert f"| `{name}` |" in text
        assert f"| {family.name} | `{family.names[0]}` |" in text


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if family.name in CHEAP], ids=lambda family: family.name
)
def test_the_figures_are_those_of_the_code(family) -> None:
    assert page_row(family, 0) in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_figure_is_stale() -> None:
    assert PAGE.read_text(encoding="utf-8").count("\n| ") == len(rows_of(FAMILIES)) + 1
    assert all(row in PAGE.read_text(encoding="utf-8") for row in rows_of(FAMILIES))

"""docs/backbones.md says what the code builds."""

from pathlib import Path

import pytest

from trainable.backbones.families import FAMILIES
from trainable.backbones.page import SPEEDS, page_row, read_speeds, rows_of

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
    assert page_row(family, 0, read_speeds(SPEEDS)) in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_no_figure_is_stale() -> None:
    text, rows = PAGE.read_text(encoding="utf-8"), rows_of(FAMILIES, read_speeds(SPEEDS))
    assert text.count("\n| ") == len(rows) + 1
    assert all(row in text for row in rows)


def test_the_throughput_of_every_network_is_known() -> None:
    assert {name for family in FAMILIES for name in family.names} == set(read_speeds(SPEEDS))

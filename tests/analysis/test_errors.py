"""What an unknown name is told."""

import pytest

from analysis.errors import MOST_LISTED, unknown_name

RECIPES = [f"cifar-{number:02d}" for number in range(1, 12)]


@pytest.mark.parametrize(
    ("name", "meant"), [("cifar-1", "cifar-01"), ("cifar-011", "cifar-11"), ("cifr-04", "cifar-04")]
)
def test_the_nearest_name_is_the_one_with_the_same_number(name: str, meant: str) -> None:
    said = str(unknown_name("recipe", name, RECIPES))
    assert said.startswith(f"unknown recipe '{name}'; did you mean '{meant}'? (known: cifar-01, ")


def test_a_thousand_names_are_counted_and_not_listed() -> None:
    names = [f"resnet{number}" for number in range(1000)]
    said = str(unknown_name("backbone", "resnet18q", names))
    assert (
        said == "unknown backbone 'resnet18q'; did you mean 'resnet18'? (1000 are known, resnet0 to resnet999)"
    )
    listed = str(unknown_name("backbone", "resnet18q", names[:MOST_LISTED]))
    assert all(name in listed for name in names[:MOST_LISTED])


def test_what_is_like_nothing_is_told_what_there_is() -> None:
    assert str(unknown_name("metric", "zzz", ["macro_f1"])) == "unknown metric 'zzz'; known: macro_f1"

"""ASHA by hand: rungs, the quantile, the records it waits for, and what it never looks at."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailtune.asha import Asha, own_grace


def test_rungs_multiply_from_the_grace_and_end_below_the_last_epoch() -> None:
    assert Asha(27, 1, 3).rungs == (1, 3, 9)
    assert Asha(10, 2, 2).rungs == (2, 4, 8)
    assert Asha(3, 5, 3).rungs == ()


def test_nothing_stops_before_as_many_others_as_the_factor() -> None:
    asha = Asha(9, 1, 3)
    for number, value in enumerate([0.9, 0.8, 0.0]):
        asha.record(number, 1, value)
        assert not asha.stops(number, 1)
    asha.record(3, 1, 0.0)
    assert asha.stops(3, 1)


def test_the_quantile_is_of_the_others() -> None:
    """Others 0.1, 0.4, 0.7: their 2/3 quantile lies at 0.1 + 4/3 steps = 0.5."""
    asha = Asha(9, 1, 3)
    for number, value in enumerate([0.1, 0.4, 0.7]):
        asha.record(number, 1, value)
    for value, stops in [(0.49, True), (0.51, False)]:
        asha.record(9, 1, value)
        assert asha.stops(9, 1) is stops


def test_an_epoch_between_rungs_stops_nothing() -> None:
    asha = Asha(9, 1, 3)
    for number in range(10):
        asha.record(number, 2, 1.0)
    asha.record(10, 2, 0.0)
    assert not asha.stops(10, 2)


def test_a_longer_grace_neither_judges_nor_is_judged() -> None:
    asha = Asha(9, 1, 3)
    for number in range(5):
        asha.record(number, 1, 0.5)
    asha.record(5, 1, 0.0, grace_epochs=3)
    assert not asha.stops(5, 1)
    assert 5 not in asha.records(1)
    for number in range(5):
        asha.record(number, 3, 0.5)
    asha.record(5, 3, 0.0, grace_epochs=3)
    assert asha.stops(5, 3)


def test_own_grace_is_the_first_weighted_epoch() -> None:
    assert own_grace(1, 0.8, 200) == 161  # epochs 1 to 160 are unweighted
    assert own_grace(5, 0.1, 10) == 5


@pytest.mark.parametrize("arguments", [(9, 0, 3), (9, 1, 1)])
def test_senseless_numbers_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="ASHA wants"):
        Asha(*arguments)


@given(st.lists(st.floats(), min_size=1, max_size=30), st.integers(2, 4))
def test_never_on_a_value_that_is_not_finite_and_never_the_best(values: list[float], factor: int) -> None:
    asha = Asha(100, 1, factor)
    seen: list[float] = []
    for number, value in enumerate(values):
        asha.record(number, 1, value)
        stopped = asha.stops(number, 1)
        if not math.isfinite(value) or len(seen) < factor or value >= max(seen):
            assert not stopped
        if math.isfinite(value):
            seen.append(value)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=30))
def test_records_come_in_any_order(values: list[float]) -> None:
    """Rungs refilled on resume decide as those that grew by themselves."""
    grown, refilled = Asha(100, 1, 3), Asha(100, 1, 3)
    for number, value in enumerate(values):
        grown.record(number, 1, value)
    for number, value in reversed(list(enumerate(values))):
        refilled.record(number, 1, value)
    for number in range(len(values)):
        assert grown.stops(number, 1) == refilled.stops(number, 1)

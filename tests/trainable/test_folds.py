"""Folds: every image validates once, groups stay whole, the test split is never touched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import UsageError
from trainable.data.dataset import ImageDataset, Split
from trainable.folds import folds_by_rule, make_folds, resolved_folds


def data(counts: list[int], groups: list[int] | None = None) -> tuple[ImageDataset, Split]:
    """A dataset with `counts` images a class, and two test images of class 0 at its end."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.concatenate([labels, [0, 0]]).astype(np.int64)
    number = len(labels)
    made = ImageDataset(
        np.zeros((number, 4, 4, 1), dtype=np.uint8),
        labels,
        tuple("abcdefghij"[: len(counts)]),
        "x",
        "x",
        np.zeros(number, dtype=np.int8),
        groups=None if groups is None else np.array([*groups, 900, 901], dtype=np.int64),
    )
    pool = np.arange(number - 2)
    return made, Split(pool[::2], pool[1::2], np.arange(number - 2, number))


@pytest.mark.parametrize(("smallest", "expected"), [(1, 2), (2, 2), (3, 3), (4, 3), (50, 3)])
def test_the_rule_of_the_smallest_class(smallest: int, expected: int) -> None:
    made, split = data([60, smallest, 20])
    assert folds_by_rule(made, split) == expected == resolved_folds("auto", made, split)
    assert len(make_folds(made, split, "auto", 0)) == expected


@given(st.lists(st.integers(2, 30), min_size=2, max_size=6), st.integers(2, 5), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_image_validates_once_and_shares_are_kept(counts: list[int], number: int, seed: int) -> None:
    made, split = data(counts)
    number = min(number, *counts)
    folds = make_folds(made, split, number, seed)
    pool = np.arange(len(made.labels) - 2)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.val for fold in folds])), pool)
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.train, fold.val])), pool)
        np.testing.assert_array_equal(fold.test, split.test)
        validated = made.class_counts(fold.val)
        for label, count in enumerate(counts):
            assert count // number <= validated[label] <= -(-count // number)


def test_one_fold_is_the_split_itself() -> None:
    made, split = data([5, 5])
    assert make_folds(made, split, 1, 0) == (split,)


def test_a_single_image_trains_in_every_fold_and_is_named() -> None:
    made, split = data([10, 1, 8])
    for fold in make_folds(made, split, 2, 0):
        assert 10 in fold.train
        assert fold.notes == ("classes too small to split (1) train in every fold, never validated: b",)


def test_groups_stay_whole_and_uneven_ones_stay_in_training() -> None:
    """Class c has two groups, class b one: two folds can split c, never b."""
    groups = [0, 0, 0, 1, 1, 2, 2, 3, 4, 5] + [6] * 6 + [7, 7, 7, 8]
    made, split = data([10, 6, 4], groups)
    folds = make_folds(made, split, 2, 3)
    for fold in folds:
        assert not set(made.groups[fold.train]) & set(made.groups[fold.val])
        assert made.class_counts(fold.train).min() > 0
        assert made.class_counts(fold.val)[1] == 0
        assert fold.notes[0].endswith("never validated: b")
    assert sum(made.class_counts(fold.val)[2] for fold in folds) == 4


def test_the_seed_decides_and_nothing_else() -> None:
    made, split = data([30, 20])
    other = dataclasses.replace(split, train=split.val, val=split.train)
    one, two, three = (
        make_folds(made, split, 3, 1),
        make_folds(made, other, 3, 1),
        make_folds(made, split, 3, 2),
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.val, b.val)
    assert any(not np.array_equal(a.val, b.val) for a, b in zip(one, three, strict=True))


def test_more_folds_than_the_smallest_class_has_images_are_refused() -> None:
    made, split = data([10, 3, 8])
    with pytest.raises(UsageError, match="3 of 'b', got 4") as refused:
        make_folds(made, split, 4, 0)
    assert "--folds auto" in refused.value.remedy


def test_nothing_to_validate_is_refused() -> None:
    made, split = data([1, 1, 1])
    with pytest.raises(UsageError, match="found none"):
        make_folds(made, split, "auto", 0)

import numpy as np
import pytest

from analysis.audit import Copies, size_spread, untrusted
from analysis.resolution import resolvable_difference


def copies(classes, parts=("train", "train")):
    return Copies("near", (0, 1), ("x", "y"), tuple(classes), tuple(parts))


def test_copies_know_what_they_cross():
    assert copies("ab").across_labels
    assert not copies("aa").across_labels
    assert copies("aa", ("train", "val")).across_splits
    assert not copies("ab").across_splits


def test_classes_that_say_little():
    train, val = np.array([90, 5, 3, 10]), np.array([30, 2, 0, 5])
    found = dict(untrusted("abcd", train, val, [copies("ad"), copies("ad")]))
    assert found == {
        "b": "only 2 validation images",
        "c": "no validation image (3 train)",
        "d": "2 of its images have a copy with another label",
    }


def test_spread_by_hand():
    sizes = np.array([[10, 10], [10, 10], [40, 80], [40, 80]])
    found = size_spread(sizes, np.array([0, 0, 1, 1]))
    assert found["height"] == [10.0, 25.0, 40.0]
    assert found["aspect"] == [1.0, 1.5, 2.0]
    assert found["size_explained_by_class"] == 1.0
    assert size_spread(sizes, np.array([0, 1, 0, 1]))["size_explained_by_class"] == 0.0


def test_four_times_the_images_resolve_half_the_difference():
    train = np.full(10, 100)
    few = resolvable_difference(np.full(10, 20), train)
    many = resolvable_difference(np.full(10, 80), train)
    assert few / many == pytest.approx(2.0, rel=0.3)
    assert 0.02 < few < 0.2
    assert resolvable_difference(np.full(10, 20), train) == few


def test_networks_that_agree_more_are_told_apart_sooner():
    counts, train = np.full(10, 40), np.full(10, 100)
    assert resolvable_difference(counts, train, shared=0.9) < resolvable_difference(counts, train, shared=0.1)

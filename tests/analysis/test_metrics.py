"""Metrics against scikit-learn, a case worked by hand, and the laws that hold for every matrix."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from analysis.metrics import SCORES, ClassCounts, Metrics, confusion_matrix, macro_f1

of = Metrics.from_confusion
LONG_TAIL = np.array([1000, 500, 101, 100, 20, 19, 1, 0])


def labels(seed: int, num_images: int, num_classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Targets with a long tail, and predictions of which a share `skill` is right."""
    rng = np.random.default_rng(seed)
    targets = np.minimum(rng.geometric(0.35, num_images) - 1, num_classes - 1)
    guesses = rng.integers(num_classes, size=num_images)
    return targets, np.where(rng.random(num_images) < skill, targets, guesses)


@pytest.mark.parametrize("skill", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_every_score_equals_scikit_learn(seed: int, skill: float) -> None:
    targets, predictions = labels(seed, 300, 9, skill)
    present = np.unique(targets)
    ours = of(confusion_matrix(targets, predictions, 9))

    def theirs(score: str, average: str | None) -> np.ndarray:
        function = getattr(sk, score)
        return function(targets, predictions, labels=present, average=average, zero_division=0)

    assert ours.macro_f1 == pytest.approx(theirs("f1_score", "macro"))
    assert ours.weighted_f1 == pytest.approx(theirs("f1_score", "weighted"))
    assert ours.accuracy == pytest.approx(sk.accuracy_score(targets, predictions))
    assert ours.balanced_accuracy == pytest.approx(theirs("recall_score", "macro"))
    for score in ("f1", "precision", "recall"):
        values = getattr(ours, f"per_class_{score}")
        assert [values[label] for label in present] == pytest.approx(theirs(f"{score}_score", None))
    assert ours.f1_std == pytest.approx(np.std(theirs("f1_score", None)))


def test_confusion_matrix_equals_scikit_learn() -> None:
    targets, predictions = labels(1, 500, 7, 0.5)
    expected = sk.confusion_matrix(targets, predictions, labels=range(7))
    assert (confusion_matrix(targets, predictions, 7) == expected).all()


def test_worked_by_hand_with_an_absent_and_a_single_image_class() -> None:
    """Class 0: 3 of 4, one taken for 2 (absent). Class 1: its only image right. 3: all wrong."""
    confusion = [[3, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]
    got = of(confusion, [200, 50, 10, 5])
    f1_0 = 2 * 3 / (4 + 5)
    assert got.per_class_f1 == pytest.approx((f1_0, 1.0, None, 0.0))
    assert got.macro_f1 == pytest.approx((f1_0 + 1.0 + 0.0) / 3)
    assert got.accuracy == pytest.approx(4 / 7)
    assert got.weighted_f1 == pytest.approx((4 * f1_0 + 1 + 0) / 7)
    assert got.balanced_accuracy == pytest.approx((0.75 + 1 + 0) / 3)
    assert (got.head_f1, got.medium_f1, got.tail_f1) == pytest.approx((f1_0, 1.0, 0.0))
    assert got.absent_classes == (2,)
    assert got.smallest_class_f1 == 0.0


def test_macro_is_not_micro() -> None:
    """A net that always says the common class: micro-F1 is 0.99, macro-F1 under 0.5."""
    got = of([[99, 0], [1, 0]])
    assert got.accuracy == 0.99
    assert got.macro_f1 == pytest.approx(198 / 199 / 2)


def test_all_wrong_is_zero_and_not_nan() -> None:
    got = of([[0, 5], [3, 0]])
    assert (got.macro_f1, got.accuracy, got.weighted_f1, got.balanced_accuracy) == (0, 0, 0, 0)


def test_group_borders() -> None:
    """More than 100 is head, 20 to 100 medium, fewer than 20 tail."""
    confusion = np.diag([1, 1, 1, 1, 1, 1, 1, 0])
    confusion[[0, 3, 5], [0, 3, 5]] = 0
    confusion[[0, 3, 5], 7] = 1
    got = of(confusion, LONG_TAIL)
    assert got.head_f1 == pytest.approx(2 / 3)
    assert got.medium_f1 == pytest.approx(1 / 2)
    assert got.tail_f1 == pytest.approx(1 / 2)
    assert got.smallest_class_f1 == 1.0


def test_empty_groups_are_none_and_json_takes_them() -> None:
    got = of(np.eye(3), [5, 5, 5])
    assert (got.head_f1, got.medium_f1, got.tail_f1) == (None, None, 1.0)
    assert json.loads(json.dumps(got.to_dict(), allow_nan=False))["head_f1"] is None
    assert of(np.eye(3)).tail_f1 is None


def test_equally_small_classes_count_together() -> None:
    assert of([[0, 1, 0], [0, 1, 0], [0, 0, 2]], [1, 1, 9]).smallest_class_f1 == pytest.approx(1 / 3)


matrices = hnp.arrays(np.int64, st.integers(1, 6).map(lambda c: (c, c)), elements=st.integers(0, 20))


@given(matrices.filter(lambda m: m.sum() > 0), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_classes_does_not_matter(matrix: np.ndarray, random) -> None:
    order = list(range(len(matrix)))
    random.shuffle(order)
    train = np.arange(len(matrix)) // 2 * 30
    one, other = of(matrix, train), of(matrix[np.ix_(order, order)], train[order])
    for key in (*SCORES, "f1_std", "smallest_class_f1", "tail_f1"):
        assert getattr(one, key) == pytest.approx(getattr(other, key))
    assert all(0 <= getattr(one, name) <= 1 for name in SCORES)


@given(hnp.arrays(np.int64, (3, 2, 4, 4), elements=st.integers(0, 9)))
@settings(max_examples=50, deadline=None)
def test_a_stack_gives_what_each_matrix_gives(stack: np.ndarray) -> None:
    stack[..., 0, 0] += 1
    for name, score in SCORES.items():
        together = score(ClassCounts.of(stack))
        alone = [[getattr(of(matrix), name) for matrix in row] for row in stack]
        assert together == pytest.approx(np.array(alone))


def test_no_image_at_all() -> None:
    assert np.isnan(macro_f1(ClassCounts.of(np.zeros((2, 3, 3))))).all()
    with pytest.raises(ValueError, match="at least one image"):
        of(np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("targets", "predictions", "law"),
    [([0, 3], [0, 0], "targets must lie in 0 … 2"), ([0], [-1], "predictions must"), ([0, 1], [0], "equal")],
)
def test_illegal_labels_are_refused(targets: list[int], predictions: list[int], law: str) -> None:
    with pytest.raises(ValueError, match=law):
        confusion_matrix(targets, predictions, 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="square"):
        of(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="one count a class"):
        of(np.eye(3), [1, 2])

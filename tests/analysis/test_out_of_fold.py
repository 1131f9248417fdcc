"""A fitted strength: dealt evenly, chosen by the others, and no better than it is."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from analysis.metrics import ClassCounts, confusion_matrix, macro_f1
from analysis.out_of_fold import best_strengths, dealt

STRENGTHS = tuple(step / 10 for step in range(21))


def test_classes_are_spread_over_the_parts_and_units_stay_whole() -> None:
    targets = np.repeat([0, 1, 2], [50, 10, 5])
    part = dealt(targets, np.arange(65), seed=1)
    counts = np.stack([np.bincount(part[targets == label], minlength=5) for label in range(3)])
    assert counts.tolist() == [[10] * 5, [2] * 5, [1] * 5]
    assert not np.array_equal(part, dealt(targets, np.arange(65), seed=2))
    groups = np.arange(65) // 4
    together = dealt(np.zeros(65, dtype=np.int64), groups, seed=1)
    assert all(len(set(together[groups == group])) == 1 for group in range(17))
    assert set(dealt(np.zeros(3, dtype=np.int64), np.arange(3), seed=0)) == {0, 1, 2}, (
        "fewer units, fewer parts"
    )


def test_each_part_takes_what_scikit_learn_says_is_best_on_the_others() -> None:
    rng = np.random.default_rng(3)
    targets = np.repeat(np.arange(4), [60, 20, 8, 3])
    logits = rng.normal(size=(91, 4)) + 1.5 * np.eye(4)[targets] + np.log([0.65, 0.22, 0.09, 0.04])
    offset = -np.log([0.65, 0.22, 0.09, 0.04])
    part = dealt(targets, np.arange(91), seed=0)
    taus, whole = best_strengths(targets, lambda tau: logits + tau * offset, STRENGTHS, part)

    def best(rows: np.ndarray) -> float:
        present = np.unique(targets[rows])
        scores = [
            f1_score(
                targets[rows],
                (logits + tau * offset)[rows].argmax(1),
                labels=present,
                average="macro",
                zero_division=0,
            )
            for tau in STRENGTHS
        ]
        return STRENGTHS[int(np.argmax(scores))]

    assert whole == best(np.arange(91))
    assert taus.tolist() == [best(np.flatnonzero(part != each)) for each in range(5)]
    assert whole > 0.0


def test_a_single_part_takes_the_weakest_strength() -> None:
    targets, logits = np.array([0, 0]), np.array([[1.0, 2.0], [1.0, 2.0]])
    taus, whole = best_strengths(targets, lambda tau: logits - [0, 2 * tau], STRENGTHS, np.zeros(2, dtype=int))
    assert taus.tolist() == [0.0]
    assert whole == pytest.approx(0.5)


def test_out_of_fold_scores_are_no_optimists() -> None:
    """On noise, fitting and judging on the same images promises more than new images give; ours does not."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), [40, 12, 4])
    direction = np.array([-1.0, 0.3, 1.0])
    same, fold = [], []

    def score(logits: np.ndarray, tau: np.ndarray | float) -> float:
        classes = (logits + np.reshape(tau, (-1, 1)) * direction).argmax(1)
        return float(macro_f1(ClassCounts.of(confusion_matrix(targets, classes, 3))))

    for number in range(150):
        logits = rng.normal(size=(56, 3))
        part = dealt(targets, np.arange(56), seed=number)
        taus, whole = best_strengths(targets, lambda tau, z=logits: z + tau * direction, STRENGTHS, part)
        new = np.mean([score(rng.normal(size=(56, 3)), whole) for _ in range(5)])
        same.append(score(logits, whole) - new)
        fold.append(score(logits, taus[part]) - new)
    assert np.mean(same) > 0.01
    assert abs(np.mean(fold)) < 0.008

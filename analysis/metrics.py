"""The house's only definition of macro-F1 and its relatives, all computed from a confusion matrix.

Rows are targets, columns are predictions. A class without a target in the evaluated split is *absent*: it
has no precision, recall or F1 (NaN in arrays, None in records) and takes no part in any mean; predicting
it still costs the classes whose images were taken for it. A present class that is never predicted rightly
has F1 = 0. This is scikit-learn's `f1_score(labels=present, average="macro", zero_division=0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

HEAD_ABOVE = 100
"""A head class has more training images than this."""
TAIL_BELOW = 20
"""A tail class has fewer training images than this; medium lies between, both ends included."""

Floats = NDArray[np.floating[Any]]


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, num_classes: int) -> NDArray[np.int32]:
    """Return the confusion matrix `(C, C)` int32 of `targets` `(N,)` against `predictions` `(N,)`.

    Raises:
        ValueError: If the lengths differ, or a label is not in 0 … C-1.
    """
    rows, columns = np.asarray(targets, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if rows.shape != columns.shape or rows.ndim != 1:
        raise ValueError(f"targets and predictions must be equal vectors, got {rows.shape}, {columns.shape}")
    for name, labels in (("targets", rows), ("predictions", columns)):
        if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
            raise ValueError(f"{name} must lie in 0 … {num_classes - 1}, got {labels.min()} … {labels.max()}")
    flat = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int32)


@dataclass(frozen=True)
class ClassCounts:
    """All that F1 needs of a confusion matrix, or of a stack of them; each `(..., C)`, whole or weighted.

    Attributes:
        hits: Images of the class that were predicted as it (true positives).
        targets: Images of the class.
        predicted: Images that were predicted as the class.
    """

    hits: Floats
    targets: Floats
    predicted: Floats

    @classmethod
    def of(cls, confusion: ArrayLike) -> ClassCounts:
        """Return the counts of confusion matrices `(..., C, C)`."""
        matrix = np.asarray(confusion, dtype=np.float64)
        return cls(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2))

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which classes have a target, `(..., C)`."""
        return self.targets > 0

    def precision(self) -> Floats:
        """Return `(..., C)`: hits over predicted, 0 where a present class is never predicted, NaN if absent."""
        return self._ratio(self.hits, self.predicted)

    def recall(self) -> Floats:
        """Return `(..., C)`: hits over targets, NaN where the class is absent."""
        return self._ratio(self.hits, self.targets)

    def f1(self) -> Floats:
        """Return `(..., C)`: 2·hits over (targets + predicted), NaN where the class is absent."""
        return self._ratio(2.0 * self.hits, self.targets + self.predicted)

    def _ratio(self, above: Floats, below: Floats) -> Floats:
        ratio = above / np.where(below > 0, below, 1.0)
        return np.where(self.present, ratio, np.nan)


def macro_f1(counts: ClassCounts) -> Floats:
    """Return the mean F1 over present classes, `(...)`; NaN where no class has a target."""
    return _mean(counts.f1(), counts.present)


def balanced_accuracy(counts: ClassCounts) -> Floats:
    """Return the mean recall over present classes, `(...)`."""
    return _mean(counts.recall(), counts.present)


def weighted_f1(counts: ClassCounts) -> Floats:
    """Return the mean F1 weighted by each class's targets, `(...)`."""
    return _mean(counts.f1(), counts.targets)


def accuracy(counts: ClassCounts) -> Floats:
    """Return the share of images predicted rightly, `(...)`."""
    return _mean(counts.recall(), counts.targets)


SCORES: Mapping[str, Callable[[ClassCounts], Floats]] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "weighted_f1": weighted_f1,
    "balanced_accuracy": balanced_accuracy,
}
"""Scores of a whole split, by the name that records and reports use; each takes a stack as well."""


def _mean(values: Floats, weights: NDArray[Any]) -> Floats:
    """Return the weighted mean over classes, absent ones (weight 0, NaN) left out; NaN where all are."""
    total = weights.sum(axis=-1, dtype=np.float64)
    summed = np.where(weights > 0, values * weights, 0.0).sum(axis=-1)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


@dataclass(frozen=True)
class Metrics:
    """The scores of one confusion matrix.

    Attributes:
        macro_f1: Mean F1 of the classes with at least one target.
        accuracy: Share of images predicted rightly.
        weighted_f1: Mean F1 weighted by targets.
        balanced_accuracy: Mean recall of the present classes.
        f1_std: Standard deviation of F1 between present classes (population form), the spread.
        head_f1: Mean F1 of present classes with more than 100 training images; None where there are none.
        medium_f1: The same for 20 to 100.
        tail_f1: The same for fewer than 20.
        smallest_class_f1: F1 of the present class with the fewest training images; the mean where several
            have equally few, so that no order of the classes decides.
        per_class_precision: C values, None for an absent class.
        per_class_recall: As above.
        per_class_f1: As above.
        absent_classes: Labels without a target, which no mean counts.
    """

    macro_f1: float
    accuracy: float
    weighted_f1: float
    balanced_accuracy: float
    f1_std: float
    head_f1: float | None
    medium_f1: float | None
    tail_f1: float | None
    smallest_class_f1: float | None
    per_class_precision: tuple[float | None, ...]
    per_class_recall: tuple[float | None, ...]
    per_class_f1: tuple[float | None, ...]
    absent_classes: tuple[int, ...]

    @classmethod
    def from_confusion(cls, confusion: ArrayLike, train_class_counts: ArrayLike | None = None) -> Metrics:
        """Return every score of one confusion matrix.

        Args:
            confusion: `(C, C)`, rows are targets.
            train_class_counts: Training images of each class, `(C,)`; without them the groups are None.

        Raises:
            ValueError: If the matrix holds no image, or the shapes do not fit.
        """
        matrix = np.asarray(confusion)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a confusion matrix must be square, got shape {matrix.shape}")
        counts = ClassCounts.of(matrix)
        present = counts.present
        if not present.any():
            raise ValueError("metrics need at least one image, got an empty confusion matrix")
        f1 = counts.f1()
        return cls(
            macro_f1=float(macro_f1(counts)),
            accuracy=float(accuracy(counts)),
            weighted_f1=float(weighted_f1(counts)),
            balanced_accuracy=float(balanced_accuracy(counts)),
            f1_std=float(f1[present].std()),
            **_group_f1(f1, present, train_class_counts),
            per_class_precision=_or_none(counts.precision()),
            per_class_recall=_or_none(counts.recall()),
            per_class_f1=_or_none(f1),
            absent_classes=tuple(int(label) for label in np.flatnonzero(~present)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain numbers, lists and None, fit for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def _group_f1(
    f1: Floats, present: NDArray[np.bool_], train_class_counts: ArrayLike | None
) -> dict[str, float | None]:
    names = ("head_f1", "medium_f1", "tail_f1", "smallest_class_f1")
    if train_class_counts is None:
        return dict.fromkeys(names)
    seen = np.asarray(train_class_counts)
    if seen.shape != f1.shape:
        raise ValueError(f"train_class_counts must have one count a class, got {seen.shape} for {f1.shape}")
    head, tail = seen > HEAD_ABOVE, seen < TAIL_BELOW
    smallest = seen == seen[present].min()
    masks = (head & present, ~head & ~tail & present, tail & present, smallest & present)
    means = (float(f1[mask].mean()) if mask.any() else None for mask in masks)
    return dict(zip(names, means, strict=True))


def _or_none(values: Floats) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else float(value) for value in values)

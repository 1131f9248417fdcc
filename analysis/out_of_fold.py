"""A number that is fitted on the images that judge it, honestly: each image is judged by what others chose.

A post-hoc correction of logits has one parameter, its strength. Fitted on all validation images and judged on
the same ones, it would look better than it is. Here the images are dealt into parts; the strength that corrects
a part is the one that does best on the others. A corrected model takes the strength that does best on all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.metrics import ClassCounts, macro_f1

PARTS = 5
"""Into which the validation images are dealt, or as many as there are units of them."""

Corrected = Callable[[float], NDArray[np.floating]]
"""Returns the logits `(N, C)` corrected with a strength."""


def dealt(
    targets: NDArray[np.int64], units: NDArray[np.int64], seed: int, parts: int = PARTS
) -> NDArray[np.int64]:
    """Return the part, 0 … P-1, of each image, `(N,)`: classes spread evenly, units never divided.

    Args:
        targets: Class of each image, `(N,)`.
        units: What stays together (a group's number, or the image's own), `(N,)`.
        seed: Of the dealing.
        parts: P, or fewer where there are fewer units.
    """
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    in_order = shuffled[np.argsort(targets[first][shuffled], kind="stable")]
    part = np.empty(len(first), dtype=np.int64)
    part[in_order] = np.arange(len(first)) % min(parts, len(first))
    found: NDArray[np.int64] = part[unit]
    return found


def best_strengths(
    targets: NDArray[np.int64],
    corrected: Corrected,
    strengths: Sequence[float],
    part: NDArray[np.int64],
) -> tuple[NDArray[np.float64], float]:
    """Return the strength for each part, chosen on the other parts, `(P,)`, and the one chosen on all images.

    Chosen is the largest macro-F1, of equals the first in `strengths`, which has the weakest first. Where
    there is a single part, nothing else can choose for it: it takes the first.

    Args:
        targets: Class of each image, `(N,)`.
        corrected: The logits with a strength.
        strengths: S of them.
        part: Part of each image, `(N,)`.
    """
    num_parts = int(part.max()) + 1
    each = [_counts(targets, corrected(strength), part, num_parts) for strength in strengths]
    counts = ClassCounts(
        np.stack([one.hits for one in each]),
        np.stack([one.targets for one in each]),
        np.stack([one.predicted for one in each]),
    )
    whole = _scores(counts.hits.sum(1), counts.targets.sum(1), counts.predicted.sum(1))
    on_all = float(strengths[int(whole.argmax())])
    if num_parts == 1:
        return np.array([strengths[0]], dtype=np.float64), on_all
    others = _scores(
        counts.hits.sum(1, keepdims=True) - counts.hits,
        counts.targets.sum(1, keepdims=True) - counts.targets,
        counts.predicted.sum(1, keepdims=True) - counts.predicted,
    )
    return np.asarray(strengths, dtype=np.float64)[others.argmax(axis=0)], on_all


def _counts(
    targets: NDArray[np.int64], logits: NDArray[np.floating], part: NDArray[np.int64], num_parts: int
) -> ClassCounts:
    """Return the counts of each part, `(P, C)`."""
    num_classes = logits.shape[1]
    classes = logits.argmax(axis=1)

    def per_part(labels: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.float64]:
        flat = np.bincount(where * num_classes + labels, minlength=num_parts * num_classes)
        return flat.reshape(num_parts, num_classes).astype(np.float64)

    right = classes == targets
    return ClassCounts(per_part(targets[right], part[right]), per_part(targets, part), per_part(classes, part))


def _scores(
    hits: NDArray[np.float64], targets: NDArray[np.float64], predicted: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(macro_f1(ClassCounts(hits, targets, predicted)), dtype=np.float64)

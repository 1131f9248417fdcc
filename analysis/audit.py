"""What is known of a set of images before anything is trained: the document of `tailtune data --json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import FEW_IMAGES
from analysis.metrics import HEAD_ABOVE, TAIL_BELOW


@dataclass(frozen=True)
class Copies:
    """Images that are copies of one another.

    Attributes:
        kind: `exact` where every decoded pixel is equal, else `near`.
        positions: In the dataset, sorted; two or more.
        paths: Of each.
        classes: Of each, by name.
        parts: Of each: train, val or test.
    """

    kind: str
    positions: tuple[int, ...]
    paths: tuple[str, ...]
    classes: tuple[str, ...]
    parts: tuple[str, ...]

    @property
    def across_labels(self) -> bool:
        """Whether they bear several labels: at least one of them is wrong, or the classes overlap."""
        return len(set(self.classes)) > 1

    @property
    def across_splits(self) -> bool:
        """Whether they stand in several parts of the split: the score there is partly remembered."""
        return len(set(self.parts)) > 1

    def to_json(self) -> dict[str, Any]:
        """Return all but the positions."""
        return {
            "kind": self.kind,
            "paths": list(self.paths),
            "classes": list(self.classes),
            "parts": list(self.parts),
            "across_labels": self.across_labels,
            "across_splits": self.across_splits,
        }


@dataclass(frozen=True)
class Suggestion:
    """A value for an option, with the reason."""

    option: str
    value: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """All findings.

    Attributes:
        source: What the user named.
        fingerprint: Of the dataset.
        class_counts: Images in all, by class name.
        part_counts: Images per class, `(C,)`, of train, val and test.
        skipped: Path and reason of each file left out.
        notes: Of loading and of the split.
        copies: Exact ones first.
        untrusted: Class name and reason of each class whose score says little.
        resolvable: Smallest difference of macro-F1 that validation can tell from none.
        spread: Quantiles of the original images: see `size_spread`.
        channels: Mean and standard deviation of each channel of the training images, in [0, 1].
        suggestions: For image size, resize policy and flips.
    """

    source: str
    fingerprint: str
    class_counts: Mapping[str, int]
    part_counts: Mapping[str, NDArray[np.int64]]
    skipped: Sequence[tuple[str, str]]
    notes: Sequence[str]
    copies: Sequence[Copies]
    untrusted: Sequence[tuple[str, str]]
    resolvable: float
    spread: Mapping[str, Any]
    channels: Mapping[str, Sequence[float]]
    suggestions: Sequence[Suggestion]

    @property
    def imbalance_ratio(self) -> float:
        """Training images of the largest class over those of the smallest that has any."""
        present = self.part_counts["train"][self.part_counts["train"] > 0]
        return float(present.max() / present.min())

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of the head, medium and tail classes."""
        named = list(zip(self.class_counts, self.part_counts["train"].tolist(), strict=True))
        return {
            "head": [name for name, n in named if n > HEAD_ABOVE],
            "medium": [name for name, n in named if TAIL_BELOW <= n <= HEAD_ABOVE],
            "tail": [name for name, n in named if n < TAIL_BELOW],
        }

    def to_json(self) -> dict[str, Any]:
        """Return the document that scripts rely on."""
        return {
            "source": self.source,
            "num_images": sum(self.class_counts.values()),
            "num_classes": len(self.class_counts),
            "class_counts": dict(self.class_counts),
            "parts": {part: int(counts.sum()) for part, counts in self.part_counts.items()},
            "imbalance_ratio": self.imbalance_ratio,
            "groups": {name: len(classes) for name, classes in self.groups.items()},
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "duplicates": [copies.to_json() for copies in self.copies],
            "untrusted_classes": [{"class": name, "reason": reason} for name, reason in self.untrusted],
            "resolvable_macro_f1": self.resolvable,
            "sizes": dict(self.spread),
            "channels": {key: list(values) for key, values in self.channels.items()},
            "suggestions": [
                {"option": s.option, "value": s.value, "reason": s.reason} for s in self.suggestions
            ],
            "notes": list(self.notes),
            "fingerprint": self.fingerprint,
        }


def untrusted(
    class_names: Sequence[str], train: NDArray[np.int64], val: NDArray[np.int64], copies: Sequence[Copies]
) -> list[tuple[str, str]]:
    """Return name and reason of each class whose validation score says little of it.

    Args:
        class_names: C names.
        train: Training images per class, `(C,)`.
        val: Validation images per class, `(C,)`.
        copies: A class of whose images a tenth or more bear another label as well is named.
    """
    contested = dict.fromkeys(class_names, 0)
    for found in copies:
        if found.across_labels:
            for name in found.classes:
                contested[name] += 1
    rows = []
    for name, in_train, in_val in zip(class_names, train.tolist(), val.tolist(), strict=True):
        share = contested[name] / max(1, in_train + in_val)
        if in_val == 0:
            rows.append((name, f"no validation image ({in_train} train)"))
        elif in_val < FEW_IMAGES:
            rows.append((name, f"only {in_val} validation image{'s' * (in_val > 1)}"))
        elif share >= 0.1:
            rows.append((name, f"{contested[name]} of its images have a copy with another label"))
    return rows


def size_spread(sizes: NDArray[np.int64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return how much images differ in size and shape, and how much of that their class explains.

    Args:
        sizes: Heights and widths in pixels, `(N, 2)`.
        labels: `(N,)`.

    Returns:
        `num_measured`, quantiles 5, 50 and 95 % of `height`, `width` and `aspect` (width over height), and
        `size_explained_by_class` in [0, 1]: the share of the variance of the logarithm of the area that
        lies between classes (eta squared), less what chance would give.
    """
    height, width = sizes[:, 0].astype(np.float64), sizes[:, 1].astype(np.float64)
    found: dict[str, Any] = {"num_measured": len(sizes)}
    for name, values in (("height", height), ("width", width), ("aspect", width / height)):
        found[name] = [round(float(q), 3) for q in np.quantile(values, [0.05, 0.5, 0.95])]
    area = np.log(height * width)
    counts = np.bincount(labels)
    means = np.bincount(labels, area) / np.maximum(counts, 1)
    total, within = float(area.var()) * len(area), float(((area - means[labels]) ** 2).sum())
    degrees = len(area) - int((counts > 0).sum())
    explained = 0.0 if total <= 1e-9 or degrees < 1 else 1 - (within / degrees) / (total / (len(area) - 1))
    found["size_explained_by_class"] = round(max(0.0, explained), 3)
    return found

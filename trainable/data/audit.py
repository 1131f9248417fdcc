"""Looks at every image once and says what a search on them can be expected to find out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.audit import Audit, Copies, size_spread, untrusted
from analysis.near_copies import clusters, equal, near_pairs
from analysis.resolution import resolvable_difference
from trainable.data.dataset import ImageDataset, Split
from trainable.data.decode import strict_pillow
from trainable.data.likeness import alike, digests, perceptual_hashes, thumbnails
from trainable.data.normalisation import channel_statistics
from trainable.data.suggestions import suggest_flips, suggest_geometry

MAX_BITS = 6
"""Hashes of near-copies differ in at most this many of 64 bits …"""
MIN_CORRELATION = 0.98
"""… and their small grey pictures correlate at least so much."""
MEASURED = 5000
"""Original files whose size is read; of more, every k-th."""


def audit(dataset: ImageDataset, split: Split) -> Audit:
    """Return what is known of `dataset`, split as `split` says.

    Copies are looked for among the decoded images: `exact` means that every pixel is equal at the size
    that they were decoded to.
    """
    pictures = thumbnails(dataset.images)
    parts = {"train": split.train, "val": split.val, "test": split.test}
    counts = {part: dataset.class_counts(positions) for part, positions in parts.items()}
    found = _copies(dataset, parts, pictures)
    sizes, labels = _sizes(dataset)
    spread = size_spread(sizes, labels)
    statistics = channel_statistics(dataset, split.train)
    flips = suggest_flips(pictures[split.train], dataset.labels[split.train], dataset.num_classes)
    return Audit(
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        class_counts=dict(zip(dataset.class_names, dataset.class_counts().tolist(), strict=True)),
        part_counts=counts,
        skipped=dataset.skipped,
        notes=(*dataset.notes, *split.notes),
        copies=found,
        untrusted=untrusted(dataset.class_names, counts["train"], counts["val"], found),
        resolvable=resolvable_difference(counts["val"], counts["train"]),
        spread=spread,
        channels={"mean": statistics.mean, "std": statistics.std},
        suggestions=[*suggest_geometry(spread), flips],
    )


def _copies(
    dataset: ImageDataset, parts: dict[str, NDArray[np.int64]], pictures: NDArray[np.uint8]
) -> list[Copies]:
    """Return sets of copies: exact ones, then near ones; those across labels or parts first in each."""
    part_of = np.empty(len(dataset.labels), dtype=object)
    for part, positions in parts.items():
        part_of[positions] = part

    def described(kind: str, members: NDArray[np.int64]) -> Copies:
        each = members.tolist()
        return Copies(
            kind=kind,
            positions=tuple(each),
            paths=tuple(dataset.paths[i] if dataset.paths else str(i) for i in each),
            classes=tuple(dataset.class_names[dataset.labels[i]] for i in each),
            parts=tuple(part_of[members].tolist()),
        )

    number = len(dataset.labels)
    same = equal(digests(dataset.images))
    exact = clusters(same, number)
    pairs = near_pairs(perceptual_hashes(pictures), MAX_BITS)
    pairs = pairs[alike(pictures, pairs, MIN_CORRELATION)]
    known = {members.tobytes() for members in exact}
    near = [of for of in clusters(np.concatenate([same, pairs]), number) if of.tobytes() not in known]
    found = [described("exact", of) for of in exact] + [described("near", of) for of in near]
    return sorted(found, key=lambda c: (c.kind, not c.across_labels, not c.across_splits, c.positions))


def _sizes(dataset: ImageDataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return heights and widths `(M, 2)` of original files, and their labels; of arrays, the one they have."""
    root, paths = dataset.root, dataset.paths
    if root is None:
        root, paths = Path(), ()
    step = max(1, len(dataset.labels) // MEASURED)
    sizes: list[tuple[int, int]] = []
    labels: list[int] = []
    with strict_pillow():
        for i in range(0, len(paths), step):
            try:
                with Image.open(root / paths[i]) as image:
                    turned = image.getexif().get(0x0112, 1) > 4
                    sizes.append(image.size if turned else image.size[::-1])
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning):
                continue  # rows of an array, or a file that went away since it was decoded
            labels.append(int(dataset.labels[i]))
    if not sizes:
        return np.array([dataset.image_size], dtype=np.int64), np.zeros(1, dtype=np.int64)
    return np.array(sizes, dtype=np.int64), np.array(labels, dtype=np.int64)

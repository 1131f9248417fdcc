"""Which images are copies of one another, found among N without comparing N² pairs.

Each image has a hash of 64 bits that moves little when the image does. Two hashes that differ in few bits
agree in at least one of their four quarters (pigeonhole), so only images that share a quarter are compared.

Reference: Manku, Jain, Das Sarma 2007, Detecting Near-Duplicates for Web Crawling, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BANDS = 4
"""Quarters of a hash; every pair that differs in fewer bits than this is found."""
BAND_BITS = 16
ROWS = 512
"""Hashes that are compared at a time within a bucket."""

Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]
Positions = NDArray[np.int64]


def near_pairs(hashes: Hashes, max_distance: int) -> Pairs:
    """Return pairs of positions `(P, 2)` whose hashes differ in at most `max_distance` bits.

    All pairs are found up to three bits; of those further apart, the ones that share a quarter. Images of one
    hash are chained to their first, so that a thousand equal images make 999 pairs and not half a million.

    Args:
        hashes: `(N,)`.
        max_distance: In bits, 0 … 64.
    """
    distinct, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    rest = np.setdiff1d(np.arange(len(hashes)), first)
    found = [np.stack([first[group[rest]], rest], axis=1)]
    for band in range(BANDS):
        keys = (distinct >> np.uint64(BAND_BITS * band)) & np.uint64(2**BAND_BITS - 1)
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, cuts):
            found += [first[pair] for pair in _close(distinct, bucket, max_distance)]
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _close(hashes: Hashes, bucket: Positions, max_distance: int) -> Iterator[Pairs]:
    """Yield the pairs within `bucket` whose hashes are near."""
    if len(bucket) < 2:
        return
    of_bucket = hashes[bucket]
    for start in range(0, len(bucket), ROWS):
        rows = of_bucket[start : start + ROWS]
        distance = np.bitwise_count(rows[:, None] ^ of_bucket[None, start:])
        one, two = np.nonzero(distance <= max_distance)
        keep = one < two
        if keep.any():
            yield np.stack([bucket[start + one[keep]], bucket[start + two[keep]]], axis=1)


def clusters(pairs: Pairs, num_images: int) -> list[Positions]:
    """Return the sets of positions that `pairs` connect, each sorted, by their first member."""
    parent = np.arange(num_images)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for one, two in pairs.tolist():
        a, b = root(one), root(two)
        parent[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for i in np.unique(pairs).tolist():
        members.setdefault(root(i), []).append(i)
    return [np.array(of, dtype=np.int64) for _, of in sorted(members.items())]


def equal(digests: list[bytes]) -> Pairs:
    """Return `(P, 2)`: each image whose digest stood before, with the first that had it."""
    first: dict[bytes, int] = {}
    found = [(first.setdefault(digest, i), i) for i, digest in enumerate(digests)]
    return np.array([pair for pair in found if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)

"""Exponential class profiles, as the long-tailed CIFAR benchmarks have them."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from trainable.data.listing import TRAIN, Listing


def exponential_counts(largest: int, imbalance_ratio: float, num_classes: int) -> NDArray[np.int64]:
    """Return images per class, `(C,)`: `int(largest * imbalance_ratio ** (-i / (C - 1)))`, at least 1.

    Args:
        largest: Images of class 0.
        imbalance_ratio: Largest class over smallest, at least 1.
        num_classes: C, at least 2.

    Reference:
        Cui et al. 2019, arXiv 1901.05555, section 5.1; Cao et al. 2019, arXiv 1906.07413, section 4.
    """
    shares = imbalance_ratio ** (-np.arange(num_classes) / (num_classes - 1))
    return np.maximum(1, (largest * shares).astype(np.int64))


def stable_order(names: list[str], seed: int | str) -> list[int]:
    """Return the positions of `names` in an order that depends on seed and names only, on any machine."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}\0{names[i]}".encode()).digest())


def cut_long_tail(listing: Listing, imbalance_ratio: float, seed: int) -> Listing:
    """Return `listing` with its training images cut to an exponential profile; validation and test stay.

    Classes keep their order: the first is the largest. A class with fewer images than its place in the
    profile keeps what it has.
    """
    trains = listing.given_split <= TRAIN
    largest = int(listing.training_counts().max())
    wanted = exponential_counts(largest, imbalance_ratio, len(listing.class_names))
    kept = ~trains
    for label, count in enumerate(wanted.tolist()):
        members = np.flatnonzero(trains & (listing.labels == label))
        order = stable_order([listing.names[i] for i in members.tolist()], seed)
        kept[members[order[:count]]] = True
    positions = np.flatnonzero(kept)
    note = (
        f"training images were cut to a long tail of imbalance ratio {imbalance_ratio:g} (seed {seed}): "
        f"{int(trains.sum())} became {int(kept[trains].sum())}"
    )
    return listing.select(positions, note)

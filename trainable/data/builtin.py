"""Data sets that a name alone stands for: `digits-lt`, `cifar10`, `cifar100`, `cifar100-lt:IR`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError, UsageError
from trainable.data.listing import TEST, TRAIN, UNASSIGNED, VAL, Listing
from trainable.data.long_tail import exponential_counts, stable_order

DIGITS_HELD_OUT = 30
"""Images a class for validation, and as many for test."""
DIGITS_SMALLEST = 6
"""Training images of the rarest digit."""


def list_digits_lt(cache_dir: Path) -> Listing:
    """Return scikit-learn's 8x8 digits: 30 a class each for validation and test, the rest a long tail.

    The tail is exponential, from all that are left of the digit 0 down to 6 of the digit 9. Which images
    go where is fixed.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    left = int(np.sum(labels == 0)) - 2 * DIGITS_HELD_OUT
    counts = exponential_counts(left, left / (DIGITS_SMALLEST + 0.5), 10)  # the half keeps 6 from rounding to 5
    split = np.full(len(labels), UNASSIGNED, dtype=np.int8)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        order = members[stable_order([str(i) for i in members.tolist()], "digits-lt")]
        split[order[:DIGITS_HELD_OUT]] = VAL
        split[order[DIGITS_HELD_OUT : 2 * DIGITS_HELD_OUT]] = TEST
        split[order[2 * DIGITS_HELD_OUT :][: counts[digit]]] = TRAIN
    rows = np.flatnonzero(split)
    return _of_arrays("digits-lt", images, labels, tuple("0123456789"), split, rows)


def list_cifar10(cache_dir: Path) -> Listing:
    """Return CIFAR-10: 50,000 to train on, 10,000 to test on."""
    images, labels, names, split = _cifar("CIFAR10", cache_dir)
    return _of_arrays("cifar10", images, labels, names, split, np.arange(len(labels)))


def list_cifar100(cache_dir: Path) -> Listing:
    """Return CIFAR-100: 50,000 to train on, 10,000 to test on."""
    images, labels, names, split = _cifar("CIFAR100", cache_dir)
    return _of_arrays("cifar100", images, labels, names, split, np.arange(len(labels)))


def list_cifar100_lt(cache_dir: Path, imbalance_ratio: float) -> Listing:
    """Return CIFAR-100 with its training images cut to a long tail, the test part whole."""
    images, labels, names, split = _cifar("CIFAR100", cache_dir)
    rows = long_tailed_rows(labels, split, imbalance_ratio)
    return _of_arrays(f"cifar100-lt:{imbalance_ratio:g}", images, labels, names, split, rows)


def long_tailed_rows(
    labels: NDArray[np.int64], split: NDArray[np.int8], imbalance_ratio: float
) -> NDArray[np.intp]:
    """Return the rows of the long-tailed set: all of test, `int(n * IR ** (-i / (C - 1)))` to train on class i.

    Which images stay is drawn as in the code of Cao et al. (seed 0, class by class), so that the images
    are those of the published benchmark.

    Args:
        labels: `(N,)`, each of C classes with n training images.
        split: `(N,)` codes.
        imbalance_ratio: IR, at least 1.

    Reference:
        Cao et al. 2019, arXiv 1906.07413, section 4; github.com/kaidic/LDAM-DRW, imbalance_cifar.py.
    """
    num_classes = int(labels.max()) + 1
    per_class = int(np.sum((labels == 0) & (split == TRAIN)))
    counts = exponential_counts(per_class, imbalance_ratio, num_classes)
    generator = np.random.RandomState(0)
    kept = split == TEST
    for label in range(num_classes):
        members = np.flatnonzero((labels == label) & (split == TRAIN))
        generator.shuffle(members)
        kept[members[: counts[label]]] = True
    return np.flatnonzero(kept)


PLAIN: dict[str, Callable[[Path], Listing]] = {
    "digits-lt": list_digits_lt,
    "cifar10": list_cifar10,
    "cifar100": list_cifar100,
}
NAMES = (*PLAIN, "cifar100-lt:IR")


def find_builtin(source: str, cache_dir: Path) -> Listing | None:
    """Return the built-in set called `source`, or None where no set is.

    Raises:
        UsageError: If the imbalance ratio of `cifar100-lt` is no number from 1 to 500.
        TailtuneError: If its files are not at hand and cannot be downloaded.
    """
    if source in PLAIN:
        return PLAIN[source](cache_dir)
    name, _, ratio = source.partition(":")
    if name != "cifar100-lt":
        return None
    try:
        imbalance_ratio = float(ratio)
    except ValueError:
        imbalance_ratio = math.nan
    if not 1 <= imbalance_ratio <= 500:
        raise UsageError(
            f"cifar100-lt needs an imbalance ratio from 1 to 500 after a colon, got '{source}'",
            "write `cifar100-lt:100`",
        )
    return list_cifar100_lt(cache_dir, imbalance_ratio)


def _of_arrays(
    source: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    split: NDArray[np.int8],
    rows: NDArray[np.intp],
) -> Listing:
    return Listing(
        kind="builtin",
        source=source,
        root=Path(),
        names=tuple(f"{source}/{row}" for row in rows.tolist()),
        labels=labels[rows],
        class_names=class_names,
        given_split=split[rows],
        stamps=(source,),
        read=lambda scratch: images,
        rows=rows.astype(np.int64),
    )


def _cifar(
    name: str, cache_dir: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...], NDArray[np.int8]]:
    """Return images, labels, class names and split of a CIFAR set, from `cache_dir` or by download."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    folder = cache_dir / "downloads"
    parts = []
    for train in (True, False):
        try:
            parts.append(kind(str(folder), train=train, download=not (folder / kind.base_folder).exists()))
        except (OSError, RuntimeError) as error:  # no network, a full disk, a damaged archive
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TailtuneError(
                f"{name.lower()} is neither in {folder} nor to be downloaded: {reason}"[:300],
                f"download {kind.url} elsewhere and put it into {folder}",
            ) from None
    images = np.concatenate([np.asarray(part.data, dtype=np.uint8) for part in parts])
    labels = np.concatenate([np.asarray(part.targets, dtype=np.int64) for part in parts])
    split = np.repeat(np.array([TRAIN, TEST], dtype=np.int8), [len(part.targets) for part in parts])
    return images, labels, tuple(str(c) for c in parts[0].classes), split

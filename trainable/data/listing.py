"""What a source of images holds before a pixel is decoded: names, labels, given split, groups."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError

UNASSIGNED, TRAIN, VAL, TEST = 0, 1, 2, 3
"""Codes of `given_split`."""

SPLIT_CODES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}
"""What people call the parts of a split, in lower case."""

Skipped = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Listing:
    """N images by name, in a fixed order.

    Attributes:
        kind: Which reader made it; part of the fingerprint.
        source: What the user named.
        root: Folder that `names` are relative to.
        names: N paths relative to `root` with forward slashes (or `part/row` of an array).
        labels: `(N,)` int64.
        class_names: By label.
        given_split: `(N,)` int8 codes.
        stamps: What changes when the content does: a string a file (size and time), or one for all.
        group_keys: N keys, "" where an image is its own group; empty where there are no groups.
        skipped: Files that are no images, each with the reason.
        notes: What was changed or could not be promised, one sentence each.
        read: Returns the decoded images, `(N', H, W[, C])` uint8, where the source holds arrays; what does
            not fit into memory may lie in the file that it is given.
        rows: `(N,)` rows of what `read` returns.
        absent: Images among `skipped` that were named, but are not there: they count as broken.
    """

    kind: str
    source: str
    root: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    given_split: NDArray[np.int8]
    stamps: tuple[str, ...]
    group_keys: tuple[str, ...] = ()
    skipped: Skipped = ()
    notes: tuple[str, ...] = ()
    read: Callable[[Path], NDArray[np.uint8]] | None = None
    rows: NDArray[np.int64] | None = None
    absent: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def class_counts(self) -> NDArray[np.int64]:
        """Return images per class, `(C,)`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def training_counts(self) -> NDArray[np.int64]:
        """Return the images per class that may train, `(C,)`: all but the given validation and test ones."""
        return np.bincount(self.labels[self.given_split <= TRAIN], minlength=len(self.class_names))

    def select(self, positions: NDArray[np.int64], note: str = "") -> Listing:
        """Return the images at `positions` alone; classes that are left without any disappear."""
        labels = self.labels[positions]
        present = np.unique(labels)
        renumbered = np.full(len(self.class_names), -1, dtype=np.int64)
        renumbered[present] = np.arange(len(present))
        each = positions.tolist()
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in each),
            labels=renumbered[labels],
            class_names=tuple(self.class_names[i] for i in present.tolist()),
            given_split=self.given_split[positions],
            stamps=tuple(self.stamps[i] for i in each) if len(self.stamps) == len(self) else self.stamps,
            group_keys=tuple(self.group_keys[i] for i in each) if self.group_keys else (),
            rows=None if self.rows is None else self.rows[positions],
            notes=(*self.notes, note) if note else self.notes,
        )

    def groups(self) -> NDArray[np.int64] | None:
        """Return the group of each image, `(N,)`, or None: keys joined with the class, in sorted order."""
        if not self.group_keys:
            return None
        keys = [
            (label, 1, key) if key else (label, 0, name)
            for label, key, name in zip(self.labels.tolist(), self.group_keys, self.names, strict=True)
        ]
        number = {key: i for i, key in enumerate(sorted(set(keys)))}
        return np.array([number[key] for key in keys], dtype=np.int64)


def encode_labels(labels: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the number of each label and the sorted class names."""
    names = tuple(sorted(set(labels)))
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[label] for label in labels], dtype=np.int64), names


def check_classes(listing: Listing) -> None:
    """Refuse a listing that nothing can be learned from, or whose classes are at odds.

    Raises:
        TailtuneError: If there is no image, fewer than two classes, two classes with one name (up to
            case and spaces), or a class to be tested that nothing can be trained on.
    """
    if not len(listing):
        raise TailtuneError(
            f"{listing.source}: must hold images, found none",
            "put them into a folder per class, or name a manifest",
        )
    if len(listing.class_names) < 2:
        raise TailtuneError(
            f"{listing.source}: must hold two classes or more, found one ('{listing.class_names[0]}')",
            "name the folder above the class folders",
        )
    _check_names(listing)
    lacking = np.flatnonzero((listing.training_counts() == 0) & (listing.class_counts() > 0))
    if len(lacking):
        named = ", ".join(f"'{listing.class_names[i]}'" for i in lacking[:5].tolist())
        raise TailtuneError(
            f"{listing.source}: every class needs an image to train on, but {len(lacking)} "
            f"stand only in validation or test: {named}",
            "add training images of them, or take them out",
        )


def lost_classes(before: Sequence[str], after: Sequence[str]) -> tuple[str, ...]:
    """Return a note that names the classes of which no image could be read, or none."""
    lost = sorted({*before} - {*after})
    if not lost:
        return ()
    return (f"{len(lost)} classes have broken images only and are left out: {', '.join(lost)}",)


def _check_names(listing: Listing) -> None:
    """Refuse names that do not fit on a line, and two that people, or another file system, take for one.

    Systems differ in how they store an accent (one character, or a letter and a mark).
    """
    seen: dict[str, str] = {}
    for name in listing.class_names:
        if not all(character.isprintable() for character in name):
            raise TailtuneError(
                f"{listing.source}: class names must be printable on one line, got {name!r}", "rename the class"
            )
        plain = " ".join(unicodedata.normalize("NFC", name).casefold().split())
        other = seen.setdefault(plain, name)
        if other != name:
            raise TailtuneError(
                f"{listing.source}: class names must differ by more than case and spaces "
                "(and the way an accent is stored), "
                f"got '{_spaces_shown(other)}' and '{_spaces_shown(name)}'",
                "give both the same name, or clearly different ones",
            )


def _spaces_shown(name: str) -> str:
    """Return `name` with visible spaces where there are more than the eye expects."""
    return name if " ".join(name.split()) == name else re.sub(r"\s", "␣", name)

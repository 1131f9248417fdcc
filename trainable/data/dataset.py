"""Images in memory (or in a memory map) with their labels, and which of them train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Positions of the training, validation and test images in a dataset; int64, sorted, disjoint.

    Attributes:
        train: `(N_train,)`.
        val: `(N_val,)`.
        test: `(N_test,)`, may be empty; no search ever looks at it.
        notes: What the split could not guarantee, one sentence each, with the classes' names.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageDataset:
    """Decoded images with all that is known of them.

    Attributes:
        images: `(N, H, W, C)` uint8, C is 1 or 3; an array, or a read-only memory map.
        labels: `(N,)` int64.
        class_names: C names, by label.
        fingerprint: Of the files (or arrays) and of how they were decoded.
        paths: Where each image came from, relative to the source; empty for built-in arrays.
        given_split: `(N,)` of 0 = unassigned, 1 = train, 2 = val, 3 = test, as the source says.
        groups: `(N,)` int64 group of each image, or None where each is its own.
        source: What the user named: a path, or a built-in's name.
        skipped: Path and reason of each file that was left out.
        notes: What loading changed or could not promise, one sentence each.
        root: Folder that `paths` are below, where they are files.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    fingerprint: str
    source: str
    given_split: NDArray[np.int8]
    paths: tuple[str, ...] = ()
    groups: NDArray[np.int64] | None = None
    skipped: tuple[tuple[str, str], ...] = field(default=())
    notes: tuple[str, ...] = ()
    root: Path | None = None

    @property
    def num_classes(self) -> int:
        """C, classes without images counted."""
        return len(self.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.images.shape[1]), int(self.images.shape[2])

    @property
    def channels(self) -> int:
        """1 for grey images, else 3."""
        return int(self.images.shape[3])

    def class_counts(self, positions: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return images per class, `(C,)`, of all images or of those at `positions`."""
        labels = self.labels if positions is None else self.labels[positions]
        return np.bincount(labels, minlength=self.num_classes)

    def with_images(self, images: NDArray[np.uint8]) -> ImageDataset:
        """Return the same dataset over another array, for example one that several processes map."""
        return replace(self, images=images)

"""An `.npz` file in MedMNIST's layout: `train_images`, `train_labels`, and the same for val and test."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError
from trainable.data.folder import stamp
from trainable.data.listing import SPLIT_CODES, Listing

LAYOUT = (
    "arrays train_images (N, H, W) or (N, H, W, 3) uint8 and train_labels (N,) or (N, 1) integer, "
    "val_ and test_ alike"
)


def list_npz(path: Path, source: str) -> Listing:
    """Return the images of an `.npz` file; pixels are read when they are asked for.

    Raises:
        TailtuneError: If it is no such file, or its labels are multi-label.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            parts = [
                (part, code)
                for part, code in SPLIT_CODES.items()
                if {f"{part}_images", f"{part}_labels"} <= {*arrays}
            ]
            if not parts:
                found = ", ".join([*arrays][:8])
                raise TailtuneError(f"{source}: must hold {LAYOUT}, got: {found}")
            labels = [_labels(arrays[f"{part}_labels"], f"{source}: {part}_labels") for part, _ in parts]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, TailtuneError):
            raise
        raise TailtuneError(f"{source}: must be an .npz file of plain arrays: {error}", LAYOUT) from None
    every = np.concatenate(labels)
    values = np.unique(every)
    return Listing(
        kind="npz",
        source=source,
        root=path.parent,
        names=tuple(f"{part}/{i}" for (part, _), of in zip(parts, labels, strict=True) for i in range(len(of))),
        labels=np.searchsorted(values, every).astype(np.int64),
        class_names=tuple(str(value) for value in values.tolist()),
        given_split=np.concatenate(
            [np.full(len(of), code, np.int8) for (_, code), of in zip(parts, labels, strict=True)]
        ),
        stamps=(stamp(path.stat()),),
        read=_reader(path, [part for part, _ in parts], source),
        rows=np.arange(len(every), dtype=np.int64),
    )


def _labels(labels: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise TailtuneError(
            f"{where} must be one integer an image, got shape {labels.shape} of {labels.dtype}",
            "multi-label targets are out of scope",
        )
    return flat.astype(np.int64)


def _reader(path: Path, parts: list[str], source: str) -> Callable[[], NDArray[np.uint8]]:
    def read() -> NDArray[np.uint8]:
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                images = [arrays[f"{part}_images"] for part in parts]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise TailtuneError(f"{source}: images must be readable, but {error}", LAYOUT) from None
        return joined_images(images, source)

    return read


def joined_images(images: list[NDArray[np.uint8]], source: str) -> NDArray[np.uint8]:
    """Return parts of one shape as `(N, H, W)` or `(N, H, W, 3)` uint8.

    Raises:
        TailtuneError: If a part is something else.
    """
    for part in images:
        if (
            part.dtype != np.uint8
            or part.ndim not in (3, 4)
            or (part.ndim == 4 and part.shape[3] not in (1, 3))
        ):
            raise TailtuneError(f"{source}: images must be {LAYOUT}, got shape {part.shape} of {part.dtype}")
    if len({part.shape[1:] for part in images}) > 1:
        shapes = ", ".join(str(part.shape[1:]) for part in images)
        raise TailtuneError(f"{source}: images of all parts must have one shape, got {shapes}")
    return np.concatenate(images)

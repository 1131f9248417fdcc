"""An `.npz` file in MedMNIST's layout: `train_images`, `train_labels`, and the same for val and test."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError
from trainable.data.cache import allocate, row_blocks
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
        shapes = _shapes(path, [part for part, _ in parts], source)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, TailtuneError):
            raise
        raise TailtuneError(f"{source}: must be an .npz file of plain arrays: {error}", LAYOUT) from None
    for (part, _), shape, of in zip(parts, shapes, labels, strict=True):
        if shape[0] != len(of):
            raise TailtuneError(
                f"{source}: each image needs a label, got {shape[0]} {part}_images and {len(of)} {part}_labels"
            )
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
        stamps=(f"{path.name}:{stamp(path.stat())}",),
        read=_reader(path, [part for part, _ in parts], shapes, source),
        rows=np.arange(len(every), dtype=np.int64),
    )


def _labels(labels: NDArray[np.generic], where: str) -> NDArray[np.int64]:
    flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if flat.ndim != 1 or not np.issubdtype(flat.dtype, np.integer):
        raise TailtuneError(
            f"{where} must be one integer an image, got shape {labels.shape} of {labels.dtype}",
            "multi-label targets are out of scope",
        )
    if len(flat) and int(flat.max()) > np.iinfo(np.int64).max:
        raise TailtuneError(f"{where} must be below 2**63, got {int(flat.max())}")
    return flat.astype(np.int64)


def _reader(
    path: Path, parts: list[str], shapes: list[tuple[int, ...]], source: str
) -> Callable[[Path], NDArray[np.uint8]]:
    def read(scratch: Path) -> NDArray[np.uint8]:
        try:
            return _extracted(path, parts, shapes, source, scratch)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            if isinstance(error, TailtuneError):
                raise
            raise TailtuneError(f"{source}: images must be readable, but {error}", LAYOUT) from None

    return read


def _shapes(path: Path, parts: list[str], source: str) -> list[tuple[int, ...]]:
    """Return the shape of each part's images, `(N, H, W)` or `(N, H, W, C)`, from their headers alone."""
    shapes = []
    with zipfile.ZipFile(path) as archive:
        for part in parts:
            with archive.open(f"{part}_images.npy") as member:
                shapes.append(_checked_shape(member, source))
    if len({shape[1:] for shape in shapes}) > 1:
        different = ", ".join(str(shape[1:]) for shape in shapes)
        raise TailtuneError(f"{source}: images of all parts must have one shape, got {different}")
    return shapes


def _extracted(
    path: Path, parts: list[str], shapes: list[tuple[int, ...]], source: str, scratch: Path
) -> NDArray[np.uint8]:
    """Return the parts' images as a map of `scratch`, copied there a block of rows at a time."""
    images = allocate(scratch, (sum(shape[0] for shape in shapes), *shapes[0][1:]))
    done = 0
    with zipfile.ZipFile(path) as archive:
        for part, shape in zip(parts, shapes, strict=True):
            with archive.open(f"{part}_images.npy") as member:
                _checked_shape(member, source)
                for block in row_blocks(shape):
                    rows = block.stop - block.start
                    content = member.read(rows * math.prod(shape[1:]))
                    images[done : done + rows] = np.frombuffer(content, np.uint8).reshape(rows, *shape[1:])
                    done += rows
    return images


def _checked_shape(member: IO[bytes], source: str) -> tuple[int, ...]:
    """Return the shape in the header of an `.npy` member; its pixels are read next.

    Raises:
        TailtuneError: If they are not `(N, H, W)` or `(N, H, W, 3)` uint8, row by row.
    """
    version = np.lib.format.read_magic(member)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(member)
    pixels = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    if dtype != np.uint8 or not pixels or 0 in shape[1:]:
        raise TailtuneError(f"{source}: images must be {LAYOUT}, got shape {shape} of {dtype}")
    if by_columns:
        raise TailtuneError(
            f"{source}: images must lie row by row, got Fortran order", "np.ascontiguousarray before np.savez"
        )
    return tuple(shape)

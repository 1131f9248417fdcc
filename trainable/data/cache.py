"""Decoded images on disk, found again by their fingerprint and opened as a read-only memory map."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError

FORMAT = 1
"""Raised whenever decoding the same files would give other pixels or another layout."""

Rows = list[tuple[int, str]]
"""Rows that could not be decoded, in order, each with the reason."""

Fill = Callable[[Path], Rows]
"""Makes `images.npy` in a folder that may hold the rest of an interrupted run; returns the broken rows."""


@dataclass(frozen=True)
class CachedImages:
    """Decoded images.

    Attributes:
        images: `(N, H, W, C)` uint8, read-only memory map of those that could be decoded.
        broken: Rows of the listing that could not be, each with the reason.
    """

    images: NDArray[np.uint8]
    broken: Rows


def fingerprint(*parts: str) -> str:
    """Return 16 hex digits that depend on `parts` and their order."""
    joined = "\0".join((str(len(parts)), *parts))
    return hashlib.sha256(joined.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def open_or_fill(cache_dir: Path, key: str, fill: Fill) -> CachedImages:
    """Return the images cached under `key`; make them with `fill` where there are none.

    Only one process fills at a time, the others wait for it. A cache that is incomplete or from another
    version of the format is made anew; a fill that was interrupted goes on.

    Raises:
        TailtuneError: If the cache cannot be written, or nothing could be decoded.
    """
    folder = cache_dir / key
    found = _open(folder)
    if found is not None:
        return found
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(cache_dir / f"{key}.lock"):
            return _open(folder) or _make(folder, fill)
    except OSError as error:
        raise _unwritable(cache_dir, error) from None


def forget(cache_dir: Path, key: str) -> None:
    """Remove what is cached under `key`; who has mapped it keeps it."""
    with locked(cache_dir / f"{key}.lock"):
        shutil.rmtree(cache_dir / key, ignore_errors=True)


def _make(folder: Path, fill: Fill) -> CachedImages:
    partial = folder.with_name(f"{folder.name}.partial{FORMAT}")
    partial.mkdir(exist_ok=True)
    broken = fill(partial)
    images = partial / "images.npy"
    if broken:
        _drop_rows(images, [row for row, _ in broken])
    kept = list(np.load(images, mmap_mode="r").shape)
    meta = {"format": FORMAT, "shape": kept, "bytes": images.stat().st_size, "broken": broken}
    (partial / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    with open(images, "rb") as file:
        os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    made = _open(folder)
    assert made is not None
    return made


def _open(folder: Path) -> CachedImages | None:
    """Return what `folder` holds, or None where it is not whole."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["format"] != FORMAT or (folder / "images.npy").stat().st_size != meta["bytes"]:
            return None
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        broken = [(int(row), str(reason)) for row, reason in meta["broken"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CachedImages(images, broken)


def allocate(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return a new writable memory map of uint8 zeros whose space on the disk is already taken.

    A map over a hole would kill the process (SIGBUS) when the disk fills up; this raises instead.

    Raises:
        OSError: If the disk has too little space.
    """
    path.unlink(missing_ok=True)
    wanted = int(np.prod(shape))
    if shutil.disk_usage(path.parent).free < wanted:
        raise OSError(errno.ENOSPC, f"{wanted / 2**20:,.0f} MiB are needed")
    try:
        images: NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError:
        path.unlink(missing_ok=True)  # else the part that was taken stays taken
        raise
    return images


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices that cover the rows of an array of that shape, about four million elements each."""
    step = max(1, 2**22 // max(1, int(np.prod(shape[1:]))))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _drop_rows(path: Path, rows: list[int]) -> None:
    """Rewrite an `.npy` file without `rows`, a few rows in memory at a time."""
    images = np.load(path, mmap_mode="r")
    kept = np.delete(np.arange(len(images)), rows)
    compact = allocate(path.with_name("kept.npy"), (len(kept), *images.shape[1:]))
    for block in row_blocks(compact.shape):
        compact[block] = images[kept[block]]
    os.replace(path.with_name("kept.npy"), path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file at `path` locked; other processes wait for it."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unwritable(cache_dir: Path, error: OSError) -> TailtuneError:
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return TailtuneError(
            f"the disk of the cache {cache_dir} is too full for the decoded images: {reason}",
            "free space, choose a smaller --image-size, or another --home",
        )
    return TailtuneError(
        f"cannot write the cache {cache_dir}: {reason}", "check its permissions, or choose another --home"
    )

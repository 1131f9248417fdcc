"""A folder with a folder per class, with `train/`, `val/`, `test/` above them or not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from analysis.errors import TailtuneError
from trainable.data.listing import SPLIT_CODES, TRAIN, UNASSIGNED, Listing, encode_labels

LAYOUT = "expected a folder per class, with or without train/, val/ and test/ above them"


@cache
def image_extensions() -> frozenset[str]:
    """Return the file name endings that Pillow can open, with the dot, in lower case."""
    known = Image.registered_extensions()
    return frozenset(ending for ending, kind in known.items() if kind in Image.OPEN and kind not in _NO_IMAGES)


_NO_IMAGES = frozenset({"PDF", "MPEG", "HDF5", "GRIB", "BUFR", "EPS"})
"""Formats that Pillow registers but cannot read, or reads only with another program."""


def is_image_name(name: str) -> bool:
    """Whether a file name ends as an image's does."""
    return f".{name.rpartition('.')[2].lower()}" in image_extensions()


def stamp(status: os.stat_result) -> str:
    """Return what changes when a file's content does: its size and time of change."""
    return f"{status.st_size}:{status.st_mtime_ns}"


def list_folder(root: Path, source: str) -> Listing:
    """Return the images under `root`; a class is a folder, with all that lies below it.

    Hidden files are passed over in silence, other files that are no images are named. A link to a
    folder is followed, unless it leads to one above it.

    Raises:
        TailtuneError: If there are images, but no folders of classes.
    """
    parts = _parts(root, source)
    names: list[str] = []
    labels: list[str] = []
    codes: list[int] = []
    stamps: list[str] = []
    skipped: list[tuple[str, str]] = []
    notes = _beside(root, [prefix for prefix, _ in parts]) if parts[0][0] else []
    for part, code in parts:
        above = frozenset({_identity(os.stat(root)), _identity(os.stat(root / part))})
        for entry in _sorted_entries(root / part):
            if not _is_folder(entry):
                if not entry.name.startswith("."):
                    skipped.append((f"{part}{entry.name}", "lies outside the class folders"))
                continue
            _check_encoding(entry.name, source)
            for name, status, refused in _walk(Path(entry.path), f"{part}{entry.name}/", above, set()):
                reason = refused or _unfit(name, status)
                if reason:
                    skipped.append((shown(name), reason))
                    continue
                names.append(name)
                labels.append(entry.name)
                codes.append(code)
                stamps.append(stamp(status))
    if not names and any(is_image_name(name) for name, _ in skipped):
        raise TailtuneError(f"{source}: images must lie in class folders, found them beside each other", LAYOUT)
    numbers, class_names = encode_labels(labels)
    return Listing(
        kind="folder",
        source=source,
        root=root,
        names=tuple(names),
        labels=numbers,
        class_names=class_names,
        given_split=np.array(codes, dtype=np.int8),
        stamps=tuple(stamps),
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _unfit(name: str, status: os.stat_result) -> str:
    """Return why a file cannot be an image of the set, or nothing."""
    if not is_image_name(name):
        return "is not an image file"
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):  # a pipe would be waited for
        return "is no regular file"
    return "" if name == shown(name) else "has a name that is not UTF-8"


def shown(name: str) -> str:
    """Return a file's name as it can be printed: bytes that are not UTF-8 in hexadecimal."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _check_encoding(name: str, source: str) -> None:
    if name != shown(name):
        raise TailtuneError(f"{source}: class names must be UTF-8, got '{shown(name)}'", "rename the folder")


def _parts(root: Path, source: str) -> list[tuple[str, int]]:
    """Return prefix and split code of each part: one without prefix unless there is a `train/` of folders."""
    named = [
        (entry.name, SPLIT_CODES.get(entry.name.lower()))
        for entry in _sorted_entries(root)
        if _is_folder(entry)
    ]
    parts = [(f"{name}/", code) for name, code in named if code is not None]
    trained = [prefix for prefix, code in parts if code == TRAIN]
    if any(_is_folder(entry) for prefix in trained for entry in _sorted_entries(root / prefix)):
        return parts
    if parts and len(parts) == len(named) and not trained and _hold_folders(root, parts):
        raise TailtuneError(
            f"{source}: parts need a train/ beside them, found only {', '.join(name for name, _ in parts)}",
            "name the folder with the training images train/, or put the class folders directly below",
        )
    return [("", UNASSIGNED)]


def _hold_folders(root: Path, parts: list[tuple[str, int]]) -> bool:
    return all(any(_is_folder(entry) for entry in _sorted_entries(root / prefix)) for prefix, _ in parts)


def _beside(root: Path, parts: list[str]) -> list[str]:
    others = [e.name for e in _sorted_entries(root) if _is_folder(e) and f"{e.name}/" not in parts]
    return [f"folders beside train/ are not read: {', '.join(others)}"] if others else []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or beyond what may be read: it is named with the files
        return False


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise TailtuneError(
            f"{folder}: must be readable, but {error.strerror}", "check its permissions"
        ) from None
    return sorted((e for e in found if not (e.name.startswith(".") and _is_folder(e))), key=lambda e: e.name)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _walk(
    folder: Path, prefix: str, above: frozenset[tuple[int, int]], known: set[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result, str]]:
    """Yield name and status of each file below `folder`; of a link that is not followed also why.

    Links to a folder `above` it go round for ever, and those to folders that are `known` could be many times
    as many as there are folders.
    """
    status = os.stat(folder)
    here = _identity(status)
    if here in above or here in known:
        reason = (
            "leads back to a folder above it" if here in above else "leads to a folder that is read already"
        )
        yield prefix.removesuffix("/"), status, reason
        return
    known.add(here)
    for entry in _sorted_entries(folder):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {here}, known)
        else:
            try:
                yield f"{prefix}{entry.name}", entry.stat(), ""
            except OSError:  # a link to nowhere: decoding names it
                yield f"{prefix}{entry.name}", entry.stat(follow_symlinks=False), ""

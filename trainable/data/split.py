"""Which images train, validate and test: stratified, groups whole, decided by names and a seed alone."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import TailtuneError, UsageError
from trainable.data.dataset import ImageDataset, Split
from trainable.data.listing import TEST, TRAIN, UNASSIGNED, VAL
from trainable.data.long_tail import stable_order

Units = list[NDArray[np.int64]]
"""Positions of the images that stay together: those of one group in one class, or a single image."""


def make_split(
    dataset: ImageDataset, *, seed: int, validation_fraction: float = 0.2, test_fraction: float = 0.0
) -> Split:
    """Split `dataset` class by class; parts that the source gives are kept as they are.

    A unit is an image, or a group within a class. A class with one unit trains only; one with two or
    more has at least one in validation and one in training; test gets one where three or more are left.
    The order of units is a hash of seed and names, so that every machine makes the same split.

    Args:
        dataset: With its given split and groups.
        seed: Of the split alone; nothing else shares it.
        validation_fraction: Share of each class's images that validates, in (0, 1); not used where the
            source has a validation part.
        test_fraction: Share of each class's images set aside for test before that, in [0, 1); not used
            where the source has a test part.

    Raises:
        UsageError: If a fraction is out of its range.
        TailtuneError: If nothing is left to train on or to validate with.
    """
    if (
        not 0 < validation_fraction < 1
        or not 0 <= test_fraction < 1
        or validation_fraction + test_fraction >= 1
    ):
        raise UsageError(
            "validation fraction must lie in (0, 1), test fraction in [0, 1), and their sum below 1, "
            f"got {validation_fraction} and {test_fraction}"
        )
    given = dataset.given_split
    has_val, has_test = bool((given == VAL).any()), bool((given == TEST).any())
    part = np.where(given == UNASSIGNED, np.int8(TRAIN), given)
    cut_test = bool(test_fraction) and not has_test
    of_the_rest = validation_fraction / (1 - test_fraction) if cut_test else validation_fraction
    notes: list[str] = []
    alone: list[str] = []
    for label, units in enumerate(_units(dataset, np.flatnonzero(part == TRAIN), seed)):
        if cut_test:
            for unit in _take(units, test_fraction, spare=2):
                part[unit] = TEST
        if not has_val:
            taken = _take(units, of_the_rest, spare=1)
            for unit in taken:
                part[unit] = VAL
            if len(units) == 1 and not taken:
                alone.append(dataset.class_names[label])
    if alone:
        what = "image" if dataset.groups is None else "group of images"
        notes.append(
            f"classes with a single {what} ({len(alone)}) train and are never validated: {_list(alone)}"
        )
    train, val, test = (np.flatnonzero(part == code) for code in (TRAIN, VAL, TEST))
    split = Split(train, val, test, tuple(notes))
    return _checked(dataset, split, given_val=has_val)


def _units(dataset: ImageDataset, pool: NDArray[np.int64], seed: int) -> list[Units]:
    """Return the units of each class among the positions in `pool`, in the seed's order."""
    labels = dataset.labels[pool].tolist()
    groups = pool.tolist() if dataset.groups is None else dataset.groups[pool].tolist()
    by_class: list[dict[int, list[int]]] = [{} for _ in range(dataset.num_classes)]
    for position, label, group in zip(pool.tolist(), labels, groups, strict=True):
        by_class[label].setdefault(group, []).append(position)
    ordered = []
    for members in by_class:
        units = list(members.values())
        names = [dataset.paths[unit[0]] if dataset.paths else str(unit[0]) for unit in units]
        ordered.append([np.array(units[i], dtype=np.int64) for i in stable_order(names, seed)])
    return ordered


def _take(units: Units, fraction: float, *, spare: int) -> Units:
    """Move units that hold about `fraction` of the images out of `units`, in order, and return them.

    At least one is moved, and at least `spare` stay; nothing is moved where there are not more than that.
    """
    room = len(units) - spare
    if room < 1:
        return []
    wanted = fraction * sum(len(unit) for unit in units)
    taken: Units = []
    total = 0
    for unit in list(units):
        if len(taken) < room and len(unit) <= 2 * (
            wanted - total
        ):  # comes nearer to what is wanted, or as near
            taken.append(unit)
            total += len(unit)
    if not taken:
        taken.append(min(units, key=len))
    chosen = {id(unit) for unit in taken}
    units[:] = [unit for unit in units if id(unit) not in chosen]
    return taken


def _checked(dataset: ImageDataset, split: Split, *, given_val: bool) -> Split:
    """Refuse a split that cannot be searched on; add to its notes which classes a given part lacks."""
    if not len(split.val):
        raise TailtuneError(
            f"{dataset.source}: validation needs a class with two images (or groups) or more, found none",
            "add images, or give a val/ part",
        )
    missing = np.flatnonzero(dataset.class_counts(split.train) == 0)
    if len(missing):
        names = _list([dataset.class_names[i] for i in missing.tolist()])
        raise TailtuneError(
            f"{dataset.source}: every class needs an image to train on, none is left for: {names}"
        )
    notes = list(split.notes)
    for name, positions in (("validation", split.val if given_val else None), ("test", split.test)):
        if positions is None or not len(positions):
            continue
        absent = np.flatnonzero(dataset.class_counts(positions) == 0).tolist()
        if absent:
            names = _list([dataset.class_names[i] for i in absent])
            notes.append(f"classes without {name} images ({len(absent)}) do not count there: {names}")
    leaking = 0 if dataset.groups is None else _shared_groups(dataset.groups, split)
    if leaking:
        notes.append(f"groups that stand in several parts, as the data give them: {leaking}; near-copies leak")
    return Split(split.train, split.val, split.test, tuple(notes))


def _shared_groups(groups: NDArray[np.int64], split: Split) -> int:
    """Return how many groups have images in more than one part."""
    each = [np.unique(groups[positions]) for positions in (split.train, split.val, split.test)]
    _, parts = np.unique(np.concatenate(each), return_counts=True)
    return int(np.sum(parts > 1))


def _list(names: list[str]) -> str:
    return ", ".join(names)


def save_split(split: Split, path: Path, *, fingerprint: str) -> None:
    """Write `split` of the dataset with `fingerprint` to `path` (.npz), whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            np.savez_compressed(
                file,
                train=split.train,
                val=split.val,
                test=split.test,
                notes=np.array(split.notes, dtype=np.str_),
                fingerprint=np.array(fingerprint),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TailtuneError(
            f"cannot write the split to {path}: {error.strerror}", "check space and permissions"
        ) from None


def load_split(path: Path, *, fingerprint: str) -> Split:
    """Return the split that `save_split` wrote.

    Raises:
        TailtuneError: If the file is missing or broken, or belongs to other data.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            found = str(stored["fingerprint"])
            split = Split(stored["train"], stored["val"], stored["test"], tuple(stored["notes"].tolist()))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TailtuneError(
            f"{path}: must hold a split, but {error}", "restore the file, or start a new study"
        ) from None
    if found != fingerprint:
        raise TailtuneError(
            f"the data must be what the split in {path} was made for ({found}), got {fingerprint}",
            "restore the images, groups and decoding options, or start a new study",
        )
    return split

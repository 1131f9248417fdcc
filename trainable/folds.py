"""Cross-validation inside a trial: which images validate in which fold; stratified, groups whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.errors import UsageError
from trainable.config import Folds, TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.seeding import derived_seed

FEWEST, MOST_BY_RULE = 2, 3


def folds_by_rule(dataset: ImageDataset, split: Split) -> int:
    """Return 2 where the smallest class has fewer than 3 units outside the test, else 3.

    A unit is an image, or a group of them. Classes without any unit do not count.
    """
    units = _units_per_class(dataset, _pool(split))
    smallest = int(units[units > 0].min())
    return FEWEST if smallest < MOST_BY_RULE else min(MOST_BY_RULE, smallest)


def resolved_folds(folds: Folds, dataset: ImageDataset, split: Split) -> int:
    """Return `folds` as a number that these images allow.

    Raises:
        UsageError: If a class that can be validated at all has fewer units than there are folds.
    """
    if folds == "auto":
        return folds_by_rule(dataset, split)
    units = _units_per_class(dataset, _pool(split))
    validated = np.flatnonzero(units >= FEWEST)
    smallest = validated[units[validated].argmin()] if len(validated) else None
    if folds > FEWEST and smallest is not None and units[smallest] < folds:
        what = "images" if dataset.groups is None else "groups of images"
        raise UsageError(
            f"folds must be at most the {what} of the smallest class with two or more, "
            f"{units[smallest]} of '{dataset.class_names[smallest]}', got {folds}",
            f"take --folds auto, which is {folds_by_rule(dataset, split)} here, or merge rare classes",
        )
    return folds


def make_folds(dataset: ImageDataset, split: Split, folds: Folds, seed: int) -> tuple[Split, ...]:
    """Return a split for each fold; training and validation images together are dealt out, test is left alone.

    A class with a single unit, or one that a fold would leave without training images because its
    groups are too uneven, trains in every fold and is never validated; the notes name it.

    Args:
        dataset: Labels and groups.
        split: Whose training and validation images make the pool; returned as it is for one fold.
        folds: How many.
        seed: The split's own; with the images, the only thing that decides.

    Raises:
        UsageError: As `resolved_folds`.
    """
    number = resolved_folds(folds, dataset, split)
    if number == 1:
        return (split,)
    pool = _pool(split)
    stays = _units_per_class(dataset, pool) == 1
    while True:
        always = _with_their_groups(dataset, pool, stays)
        dealt = pool[~always]
        if len(dealt) < number or not len(dealt):
            raise UsageError(
                f"{number} folds need a class with {number} images (or groups) or more, found none",
                "add images",
            )
        parts = _dealt(dataset, dealt, number, seed)
        starved = _starved(dataset, dealt, parts)
        if not starved.any():
            break
        stays |= starved
    note = _note(dataset, stays)
    return tuple(
        Split(np.setdiff1d(pool, part), part, split.test, (*note, *_missing(dataset, part, stays, at)))
        for at, part in enumerate(parts, 1)
    )


def _pool(split: Split) -> NDArray[np.int64]:
    return np.sort(np.concatenate([split.train, split.val]))


def _units_per_class(dataset: ImageDataset, pool: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many images, or groups of them, each class has in `pool`, `(C,)`."""
    labels = dataset.labels[pool]
    if dataset.groups is not None:
        labels = np.unique(np.stack([labels, dataset.groups[pool]]), axis=1)[0]
    return np.bincount(labels, minlength=dataset.num_classes)


def _with_their_groups(
    dataset: ImageDataset, pool: NDArray[np.int64], stays: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which images of `pool` are of a class that stays in training, or share a group with one."""
    always = stays[dataset.labels[pool]]
    if dataset.groups is None:
        return always
    groups = dataset.groups[pool]
    shared: NDArray[np.bool_] = np.isin(groups, groups[always])
    return shared


def _dealt(dataset: ImageDataset, dealt: NDArray[np.int64], number: int, seed: int) -> list[NDArray[np.int64]]:
    """Return the validation images of each fold, sorted."""
    # Imported when needed: it takes a second, which every worker would pay.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    state = derived_seed(seed, "folds") % 2**32
    labels = dataset.labels[dealt]
    if dataset.groups is None:
        dealer = StratifiedKFold(number, shuffle=True, random_state=state).split(dealt, labels)
    else:
        by_group = StratifiedGroupKFold(number, shuffle=True, random_state=state)
        dealer = by_group.split(dealt, labels, dataset.groups[dealt])
    return [np.sort(dealt[validated]) for _, validated in dealer]


def _starved(
    dataset: ImageDataset, dealt: NDArray[np.int64], parts: list[NDArray[np.int64]]
) -> NDArray[np.bool_]:
    """Return which classes, `(C,)`, have all their images in the validation part of one fold."""
    counts = dataset.class_counts(dealt)
    alone = [dataset.class_counts(part) == counts for part in parts]
    starved: NDArray[np.bool_] = (counts > 0) & np.logical_or.reduce(alone)
    return starved


def _note(dataset: ImageDataset, stays: NDArray[np.bool_]) -> tuple[str, ...]:
    names = [dataset.class_names[label] for label in np.flatnonzero(stays).tolist()]
    if not names:
        return ()
    return (
        f"classes too small to split ({len(names)}) train in every fold, never validated: {', '.join(names)}",
    )


def _missing(
    dataset: ImageDataset, part: NDArray[np.int64], stays: NDArray[np.bool_], fold: int
) -> tuple[str, ...]:
    absent = np.flatnonzero((dataset.class_counts(part) == 0) & ~stays).tolist()
    if not absent:
        return ()
    names = ", ".join(dataset.class_names[label] for label in absent)
    return (f"fold {fold} validates without these classes ({len(absent)}): {names}",)


def fold_config(config: TrialConfig, fold: int) -> TrialConfig:
    """Return `config` as `fold` (from 0) trains it: with a seed of its own."""
    if fold == 0:
        return config
    return config.model_copy(update={"seed": derived_seed(config.seed, "fold", fold)})


def mean_class_counts(dataset: ImageDataset, folds: Sequence[Split]) -> NDArray[np.int64]:
    """Return the training images of each class, `(C,)`, rounded mean over `folds`."""
    counts = np.mean([dataset.class_counts(fold.train) for fold in folds], axis=0)
    rounded: NDArray[np.int64] = np.rint(counts).astype(np.int64)
    return rounded

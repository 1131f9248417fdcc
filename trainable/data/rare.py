"""What becomes of classes with few images: kept, merged into one, or dropped; always said."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from analysis.errors import TailtuneError
from trainable.data.listing import Listing

MERGED_NAME = "other (rare)"
"""Of the class that merging makes."""


def apply_rare_classes(listing: Listing, policy: Literal["keep", "merge", "drop"], below: int) -> Listing:
    """Return `listing` with the policy applied, and a note that names the classes.

    Args:
        listing: Images by class.
        policy: `keep` rare classes, `merge` them into one class, or `drop` their images from every part.
        below: A class with this many training images or more is not rare; at least 1.

    Raises:
        TailtuneError: If every class would be dropped, or the merged class's name is a class already.
    """
    few = np.flatnonzero(listing.training_counts() < below)
    if policy == "keep" or not len(few):
        return listing
    names = [listing.class_names[i] for i in few.tolist()]
    is_rare = np.isin(listing.labels, few)
    said = f"{len(few)} classes with fewer than {below} training images ({int(is_rare.sum())} images in all)"
    if policy == "drop":
        if is_rare.all():
            raise TailtuneError(
                f"{listing.source}: a class must have {below} training images to be kept, none has",
                "lower --rare-below",
            )
        return listing.select(np.flatnonzero(~is_rare), f"{said} were dropped: {', '.join(names)}")
    if MERGED_NAME in listing.class_names:
        raise TailtuneError(f"{listing.source}: '{MERGED_NAME}' is a class already", "rename that class")
    labels = np.where(is_rare, len(listing.class_names), listing.labels)
    joined = dataclasses.replace(listing, labels=labels, class_names=(*listing.class_names, MERGED_NAME))
    return joined.select(
        np.arange(len(listing)), f"{said} were merged into '{MERGED_NAME}': {', '.join(names)}"
    )

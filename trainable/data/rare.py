"""What becomes of classes with few images: kept, merged into one, or dropped; always said."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.errors import TailtuneError
from trainable.data.listing import Listing


@dataclass(frozen=True)
class RareClasses:
    """Policy for classes with fewer than `below` images that may train.

    Attributes:
        policy: `keep` them, `merge` them into one class, or `drop` their images from every part.
        below: A class with this many training images or more is not rare; at least 1.
        merged_name: Of the class that `merge` makes.
    """

    policy: Literal["keep", "merge", "drop"] = "keep"
    below: int = 2
    merged_name: str = "other (rare)"


def apply_rare_classes(listing: Listing, rare: RareClasses) -> Listing:
    """Return `listing` with the policy applied, and a note that names the classes.

    Raises:
        TailtuneError: If every class would be dropped, or `merged_name` is a class already.
    """
    few = np.flatnonzero(listing.training_counts() < rare.below)
    if rare.policy == "keep" or not len(few):
        return listing
    names = [listing.class_names[i] for i in few.tolist()]
    is_rare = np.isin(listing.labels, few)
    said = (
        f"{len(few)} classes with fewer than {rare.below} training images ({int(is_rare.sum())} images in all)"
    )
    if rare.policy == "drop":
        if is_rare.all():
            raise TailtuneError(
                f"{listing.source}: a class must have {rare.below} training images to be kept, none has",
                "lower the count",
            )
        return listing.select(np.flatnonzero(~is_rare), f"{said} were dropped: {', '.join(names)}")
    if rare.merged_name in listing.class_names:
        raise TailtuneError(
            f"{listing.source}: '{rare.merged_name}' is a class already", "name the merged class otherwise"
        )
    labels = np.where(is_rare, len(listing.class_names), listing.labels)
    joined = dataclasses.replace(listing, labels=labels, class_names=(*listing.class_names, rare.merged_name))
    return joined.select(
        np.arange(len(listing)), f"{said} were merged into '{rare.merged_name}': {', '.join(names)}"
    )

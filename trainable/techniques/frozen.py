"""Frozen backbone: features once, then a head on them in seconds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from trainable.component import Choices
from trainable.techniques._base import Technique, switchable

FROZEN = switchable("frozen")


@FROZEN.add
class Features(Technique):
    """Only the classifier is trained, on features that the backbone computed once.

    The features are kept beside the decoded images, so that the trials of a search share them. Batch-norm
    statistics are the trained weights' own. Augmentation needs `views`: so many passes over the training
    images are augmented and computed, and the epochs take them in turn. The backbone's `drop_rate` acts on
    the features. The saved weights are the whole network's.
    """

    name: Literal["features"] = "features"
    reference: ClassVar[str] = "Kornblith, Shlens and Le 2019, arXiv 1805.08974, section 4 (linear evaluation)"
    views: Annotated[int, Field(ge=0, le=100), Choices((0,))] = 0
    """Augmented passes over the training images; 0 computes them once as they are."""

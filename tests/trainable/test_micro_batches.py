"""A batch is cut into parts that batch norm can live with."""

from __future__ import annotations

import itertools

import pytest

from tests.trainable.test_loop import small
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit


@pytest.mark.parametrize("images", [16, 17, 2, 3])
def test_no_part_of_a_batch_has_a_single_image(images: int, digits: ImageDataset, split: Split) -> None:
    """A part of one image has no variance over a map of one pixel: torch raises in training."""
    few = Split(split.train[:images], split.val, split.test)
    config = small(epochs=1, batch_size=32, backbone="test_byobnet", training={"accumulate": 16})
    reports = list(itertools.islice(fit(config, digits, few, device="cpu"), 1))
    assert reports[0].diverged is None

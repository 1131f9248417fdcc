"""Channel statistics agree with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.errors import UsageError
from trainable.data.dataset import ImageDataset
from trainable.data.normalisation import Normalisation, channel_statistics


def dataset_of(images: np.ndarray) -> ImageDataset:
    labels = np.zeros(len(images), dtype=np.int64)
    return ImageDataset(images, labels, ("a",), "f", "test", np.zeros(len(images), dtype=np.int8))


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_are_those_of_the_positions_alone(channels: int):
    images = np.random.default_rng(0).integers(0, 256, (1500, 6, 7, channels), dtype=np.uint8)
    images[1200:] = 255
    positions = np.random.default_rng(1).permutation(1200).astype(np.int64)
    found = channel_statistics(dataset_of(images), positions)
    values = images[:1200].reshape(-1, channels) / 255.0
    assert found.mean == pytest.approx(values.mean(0), abs=1e-6)
    assert found.std == pytest.approx(values.std(0), abs=1e-6)


def test_a_constant_image_has_a_std_of_one_grey_level():
    found = channel_statistics(dataset_of(np.full((3, 4, 4, 1), 9, dtype=np.uint8)), np.arange(3))
    assert found == Normalisation((9 / 255,), (1 / 255,))


def test_of_many_images_every_kth_is_counted():
    images = np.random.default_rng(0).integers(0, 256, (45_000, 2, 2, 1), dtype=np.uint8)
    found = channel_statistics(dataset_of(images), np.arange(45_000))
    assert found.mean[0] == pytest.approx(float(images[::3].mean()) / 255, abs=1e-6)


def test_refusals():
    with pytest.raises(UsageError, match="at least one training image"):
        channel_statistics(dataset_of(np.zeros((1, 2, 2, 1), dtype=np.uint8)), np.array([], dtype=np.int64))
    with pytest.raises(UsageError, match="positive standard deviation"):
        Normalisation((0.5,), (0.0,))

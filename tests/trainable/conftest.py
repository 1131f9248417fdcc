"""Real images, few of them: scikit-learn's digits with a long tail."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trainable.data.dataset import ImageDataset, Split

COUNTS = (30, 20, 14, 10, 7, 5, 3, 2, 2, 1)


@pytest.fixture(scope="session")
def digits() -> ImageDataset:
    """All 1,797 digits, 8x8 grey."""
    raw = load_digits()
    images = np.clip(raw.images * 16, 0, 255).astype(np.uint8)[..., None]
    names = tuple(str(label) for label in range(10))
    unassigned = np.zeros(len(images), dtype=np.int8)
    return ImageDataset(images, raw.target.astype(np.int64), names, "digits", "digits", unassigned)


@pytest.fixture(scope="session")
def split(digits: ImageDataset) -> Split:
    """94 training images (30 … 1 a class) and 80 for validation."""
    by_class = [np.flatnonzero(digits.labels == label) for label in range(10)]
    train = np.sort(np.concatenate([found[:n] for found, n in zip(by_class, COUNTS, strict=True)]))
    val = np.sort(np.concatenate([found[40:48] for found in by_class]))
    return Split(train, val, np.zeros(0, dtype=np.int64))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Two test processes on two cores must not fight over them."""
    torch.set_num_threads(1)

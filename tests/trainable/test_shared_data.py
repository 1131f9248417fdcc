"""The images as a search's workers see them: the decoded cache itself where it can be mapped, no copy of it."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainable.data.dataset import ImageDataset, Split
from trainable.tune_adapter import SharedData, _whole_file


@pytest.fixture
def mapped(tmp_path: Path) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8))
    return np.load(tmp_path / "images.npy", mmap_mode="r")


def dataset_of(images: NDArray[np.uint8]) -> ImageDataset:
    labels = np.arange(len(images)) % 4
    unassigned = np.zeros(len(images), dtype=np.int8)
    return ImageDataset(images, labels, ("a", "b", "c", "d"), "f" * 16, "here", unassigned)


def test_a_memory_map_travels_as_its_file_and_comes_back_as_a_map(
    mapped: NDArray[np.uint8], tmp_path: Path
) -> None:
    split = Split(np.arange(30), np.arange(30, 40), np.arange(0))
    shared = SharedData.put(dataset_of(mapped), split, tmp_path / "unused")
    sent = pickle.dumps(shared)
    assert len(sent) < 2_000 < mapped.nbytes
    images = pickle.loads(sent).get().images
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    np.testing.assert_array_equal(images, mapped)
    assert not (tmp_path / "unused").exists()


def test_on_one_machine_an_array_travels_as_a_file(mapped: NDArray[np.uint8], tmp_path: Path) -> None:
    array = np.array(mapped)[::2]
    shared = SharedData.put(dataset_of(array), Split(*[np.arange(3)] * 3), tmp_path / "scratch")
    assert shared.images == tmp_path / "scratch" / "images.npy"
    images = pickle.loads(pickle.dumps(shared)).get().images
    assert isinstance(images, np.memmap)
    np.testing.assert_array_equal(images, array)


def test_only_a_whole_file_travels_as_one(mapped: NDArray[np.uint8], tmp_path: Path) -> None:
    assert _whole_file(mapped) == tmp_path / "images.npy"
    for part in (mapped[1:], mapped[::-1], mapped.transpose(0, 2, 1, 3), mapped[:].copy(), np.array(mapped)):
        assert _whole_file(part) is None, part.shape
    (tmp_path / "images.npy").unlink()
    assert _whole_file(mapped) is None

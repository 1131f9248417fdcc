"""Batches: what is in them, in which order, and that equal calls give equal batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import UsageError
from trainable.config import DataConfig, TrialConfig
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset
from trainable.precision import Precision

CPU = torch.device("cpu")
FP32 = Precision("fp32", channels_last=False)
EVERYTHING = ("flip", "crop", "rotation", "scale", "brightness", "colour_jitter", "erasing")


def dataset_of(count: int = 50, height: int = 8, width: int = 6, channels: int = 3) -> ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    labels = np.minimum(np.arange(count) // 20, 2).astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return ImageDataset(images, labels, ("a", "b", "c"), "f", "test", np.zeros(count, dtype=np.int8))


def batches_of(dataset: ImageDataset, train: np.ndarray | None = None, **changes: Any) -> Batches:
    given = {key: changes.pop(key) for key in ("statistics", "precision") if key in changes}
    config = TrialConfig.model_validate({"batch_size": 16, "epochs": 4, **changes})
    train = np.arange(0, len(dataset.labels), 2) if train is None else train
    return Batches(dataset, train, config=config, device=CPU, **{"precision": FP32, **given})


def test_evaluate_gives_normalised_images_in_order():
    dataset = dataset_of()
    batches = batches_of(dataset, augment=EVERYTHING)
    positions = np.array([7, 3, 3, 41, 0, 12, 9], dtype=np.int64)
    found = list(batches.evaluate(positions, batch_size=3))
    assert [len(batch.targets) for batch in found] == [3, 3, 1]
    mean, std = (
        np.array(row, dtype=np.float32) for row in (batches.normalisation.mean, batches.normalisation.std)
    )
    expected = ((dataset.images[positions] / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    assert torch.cat([b.images for b in found]).numpy() == pytest.approx(expected, abs=1e-5)
    assert torch.cat([b.targets for b in found]).tolist() == dataset.labels[positions].tolist()
    assert torch.cat([b.positions for b in found]).tolist() == positions.tolist()
    assert all(torch.equal(b.mixed.share, torch.ones(len(b.targets))) for b in found)


def test_train_without_augmentation_is_the_images_in_the_given_order():
    dataset = dataset_of()
    batches = batches_of(dataset)
    indices = np.random.default_rng(3).integers(0, 25, 25)
    found = list(batches.train(indices, 0))
    evaluated = next(iter(batches.evaluate(batches.train_positions[indices], batch_size=25)))
    assert torch.equal(torch.cat([b.images for b in found]), evaluated.images)
    assert torch.equal(torch.cat([b.targets for b in found]), evaluated.targets)
    assert torch.cat([b.positions for b in found]).tolist() == indices.tolist()


def test_equal_calls_give_equal_batches_whatever_was_asked_before():
    dataset = dataset_of()
    indices = np.arange(25)
    one, other = (
        batches_of(dataset, augment=EVERYTHING, seed=5),
        batches_of(dataset, augment=EVERYTHING, seed=5),
    )
    for epoch in (0, 1, 2):
        list(other.train(indices, epoch))
    next(iter(other.train(indices[::-1].copy(), 3)))
    torch.manual_seed(99)
    for a, b in zip(one.train(indices, 3), other.train(indices, 3), strict=True):
        assert torch.equal(a.images, b.images)


def test_epochs_and_seeds_and_batches_differ():
    dataset = dataset_of(count=64)
    same = np.zeros(32, dtype=np.int64)
    first, second = (b.images for b in batches_of(dataset, augment=["rotation"]).train(same, 0))
    other_epoch = next(iter(batches_of(dataset, augment=["rotation"]).train(same, 1))).images
    other_seed = next(iter(batches_of(dataset, augment=["rotation"], seed=1).train(same, 0))).images
    assert not torch.equal(first, second)
    assert not torch.equal(first, other_epoch)
    assert not torch.equal(first, other_seed)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 200), batch_size=st.integers(2, 70))
def test_every_image_once_and_no_lonely_last_one(count: int, batch_size: int):
    batches = batches_of(dataset_of(count=200), train=np.arange(200), batch_size=batch_size)
    found = [len(batch.targets) for batch in batches.train(np.arange(count), 0)]
    assert sum(found) == count
    assert len(found) == batches.steps_per_epoch(count)
    assert all(n == batch_size for n in found[:-1])
    assert found[-1] <= batch_size + 1
    assert found[-1] >= 2 or count == 1


def test_clean_batches_are_the_training_images():
    dataset = dataset_of()
    batches = batches_of(dataset, augment=EVERYTHING)
    evaluated = next(iter(batches.evaluate(batches.train_positions, batch_size=25))).images
    assert torch.equal(torch.cat(list(batches.clean())), evaluated)


def test_grey_images_for_trained_weights():
    batches = batches_of(
        dataset_of(channels=1), statistics=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), augment=EVERYTHING
    )
    assert batches.channels == 3
    image = next(iter(batches.evaluate(np.array([4])))).images[0]
    raw = torch.from_numpy(np.array(dataset_of(channels=1).images[4, :, :, 0])) / 255
    assert torch.allclose(image[2], (raw - 0.406) / 0.225, atol=1e-5)
    assert next(iter(batches.train(np.arange(8), 0))).images.shape == (8, 3, 8, 6)


def test_coloured_images_for_a_grey_network_are_refused():
    with pytest.raises(UsageError, match="takes 1 channels, got images of 3"):
        batches_of(dataset_of(), statistics=((0.5,), (0.5,)))


def test_another_size():
    batches = batches_of(dataset_of(), augment=EVERYTHING, data=DataConfig(image_size=(12, 10)))
    assert batches.image_size == (12, 10)
    assert next(iter(batches.train(np.arange(8), 0))).images.shape[2:] == (12, 10)
    assert next(iter(batches.train(np.arange(8), 0, size=(6, 5)))).images.shape[2:] == (6, 5)
    assert next(iter(batches.evaluate(np.arange(8), size=(16, 12)))).images.shape[2:] == (16, 12)


def test_layout_follows_the_precision():
    batches = batches_of(dataset_of(), precision=Precision("bf16", channels_last=True), augment=EVERYTHING)
    for images in (
        next(iter(batches.train(np.arange(8), 0))).images,
        next(iter(batches.evaluate(np.arange(8)))).images,
    ):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_autocast_of_the_caller_does_not_reach_the_colours():
    batches = batches_of(dataset_of(), augment=["colour_jitter"])
    outside = next(iter(batches.train(np.arange(8), 0))).images
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = next(iter(batches.train(np.arange(8), 0))).images
    assert torch.equal(outside, inside)


def test_rarity_reaches_the_operations():
    """Counts 20, 20, 10: the third class is the rare one and is erased where p is 0.5 and the boost 1."""
    dataset = dataset_of()
    config = [{"name": "erasing", "p": 0.5, "rare_boost": 1.0, "min_area": 0.3, "max_area": 0.3}]
    batches = batches_of(dataset, train=np.arange(50), augment=config, batch_size=50)
    hidden = torch.stack(
        [(next(iter(batches.train(np.arange(50), epoch))).images == 0).flatten(1).any(1) for epoch in range(20)]
    )
    assert hidden[:, 40:].all()
    assert 0.4 < hidden[:, :40].float().mean() < 0.6


def test_a_memory_map_is_read_in_place(tmp_path):
    dataset = dataset_of()
    path = tmp_path / "images.npy"
    np.save(path, dataset.images)
    mapped = dataset_of()
    object.__setattr__(mapped, "images", np.load(path, mmap_mode="r"))
    pair = (batches_of(data, augment=EVERYTHING) for data in (dataset, mapped))
    a, b = (next(iter(batches.train(np.arange(10), 0))).images for batches in pair)
    assert torch.equal(a, b)


def test_mixing_is_applied():
    dataset = dataset_of()
    mixed = next(iter(batches_of(dataset).train(np.arange(16), 0))).mixed
    assert torch.equal(mixed.partners, mixed.targets)


@pytest.mark.gpu
def test_on_a_gpu_resident_images_give_the_same_pictures():
    dataset = dataset_of()
    config = TrialConfig(batch_size=16)
    gpu = Batches(dataset, np.arange(25), config=config, device=torch.device("cuda"), precision=FP32)
    found = torch.cat([b.images.cpu() for b in gpu.train(np.arange(25), 0)])
    expected = torch.cat([b.images for b in batches_of(dataset, train=np.arange(25)).train(np.arange(25), 0)])
    assert torch.allclose(found, expected, atol=1e-6)

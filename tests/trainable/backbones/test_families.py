"""Every family that the sources name builds, trains at 32x32 and 60x80, and goes on from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis.records import RecordFolder
from trainable.backbones.families import FAMILIES, Family
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit

LARGE = {
    "VGG",
    "GoogLeNet",
    "Inception v3",
    "Inception v4",
    "Inception-ResNet v2",
    "Xception",
    "ResNeXt",
    "DenseNet",
    "NASNet",
    "Swin",
    "CaiT",
}
"""Families whose smallest member takes two seconds and more on one CPU core."""


def families() -> list[object]:
    return [
        pytest.param(family, id=family.name, marks=pytest.mark.slow if family.name in LARGE else ())
        for family in FAMILIES
    ]


@pytest.mark.parametrize("size", [(32, 32), (60, 80)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("family", families())
def test_a_family_trains_and_goes_on_from_its_checkpoint(
    family: Family, size: tuple[int, int], digits: ImageDataset, tmp_path: Path
) -> None:
    """Two epochs of two steps, stopped between them; momentum 0 keeps the checkpoints of large ones small."""
    config = TrialConfig.model_validate(
        {
            "epochs": 2,
            "batch_size": 4,
            "backbone": {
                "name": family.names[0],
                "drop_path_rate": 0.5 if family.name == "stochastic depth" else 0.0,
            },
            "data": {"image_size": size, "flips": "none"},
            "optimizer": {"name": "sgd", "lr": 0.001, "momentum": 0.0},
            "training": {"precision": "fp32"},
        }
    )
    positions = np.arange(8)
    split = Split(positions, positions + 8, positions[:0])
    images = grown(digits.images[:16], size)
    data = ImageDataset(images, digits.labels[:16], digits.class_names, "x", "x", digits.given_split[:16])
    record = RecordFolder(tmp_path)
    first = next(fit(config, data, split, record=record, checkpoint_seconds=0, device="cpu"))
    again, second = list(fit(config, data, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert (first.epoch, again.epoch, second.epoch) == (1, 1, 2)
    assert again.macro_f1 == first.macro_f1
    assert second.final
    assert second.diverged is None
    assert second.row is not None
    assert np.isfinite(second.row.train_loss)


def grown(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `(N, H, W, 1)` with every pixel repeated, cut to `size`."""
    height, width = images.shape[1:3]
    factors = [-(-side // old) for side, old in zip(size, (height, width), strict=True)]
    large = images.repeat(factors[0], axis=1).repeat(factors[1], axis=2)
    return np.ascontiguousarray(large[:, : size[0], : size[1]])

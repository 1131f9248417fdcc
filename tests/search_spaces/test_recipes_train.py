"""Every recipe trains two steps with the small network that it names, stops, and goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from analysis.records import RecordFolder
from search_spaces.recipe_book import list_recipes, load_recipe
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit

NAMES = [
    "v1",
    "v2",
    "v2.1",
    "v3",
    "v4",
    *(f"cifar-{row:02}" for row in range(1, 12)),
    "aug-1",
    "aug-2",
    "aug-3",
]


def test_the_recipes_are_those_of_the_sources() -> None:
    assert {entry.name for entry in list_recipes()} >= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_and_goes_on_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, reduced=True)
    fields = recipe.model_dump(mode="json")
    small = {"epochs": 2, "batch_size": 4, "data": {**fields["data"], "flips": "none", "image_size": (32, 32)}}
    training = {**fields["training"], "precision": "fp32"}
    # Flips are the data's to allow, and mirrored digits are none.
    augment = [op for op in fields["augment"] if op["name"] != "flip"]
    config = TrialConfig.model_validate({**fields, **small, "training": training, "augment": augment})
    dataset, split = sixteen_digits()
    record = RecordFolder(tmp_path)
    first = next(fit(config, dataset, split, record=record, checkpoint_seconds=0, device="cpu"))
    again, *others = list(fit(config, dataset, split, record=record, checkpoint_seconds=0, device="cpu"))
    folds = {"v2.1": 3, "v3": 3}.get(name, 1)
    assert again.macro_f1 == first.macro_f1
    assert [first.epoch, *(report.epoch for report in others)] == list(range(1, 2 * folds + 1))
    assert others[-1].final
    assert others[-1].diverged is None
    assert all(report.row is not None and np.isfinite(report.row.train_loss) for report in others)


def sixteen_digits() -> tuple[ImageDataset, Split]:
    """Return eight images to train on and eight to validate, of four classes, 32x32."""
    raw = load_digits()
    chosen = np.concatenate([np.flatnonzero(raw.target == label)[:4] for label in range(4)])
    images = np.clip(raw.images[chosen] * 16, 0, 255).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    positions = np.arange(16)
    names = ("0", "1", "2", "3")
    assigned = np.zeros(16, dtype=np.int8)
    data = ImageDataset(images[..., None], raw.target[chosen].astype(np.int64), names, "x", "x", assigned)
    return data, Split(positions[::2], positions[1::2], positions[:0])

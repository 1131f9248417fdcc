"""A head on features computed once: shared, resumable, and saved as the whole network."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.records import RecordFolder
from tests.trainable.test_loop import small, train
from trainable.backbones import build_backbone
from trainable.bundle import Preprocessing, load_model
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.frozen_features import FrozenNetwork, dropout
from trainable.loop import fit
from trainable.state import TrialState


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network with ten classes whose batch-norm statistics are no longer those of a start."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    torch.manual_seed(3)
    model = build_backbone(small().backbone, 10, (8, 8), 3).train()
    with torch.no_grad():
        model(torch.randn(64, 3, 8, 8))
    save_file(model.state_dict(), path)
    return path


def frozen(weights: Path, **changes: Any) -> TrialConfig:
    views = changes.pop("views", 0)
    return small(
        backbone={"name": "test_efficientnet", "weights": str(weights)},
        frozen={"name": "features", "views": views},
        **changes,
    )


@pytest.mark.parametrize("averaging", ["none", "ema", {"name": "swa", "start": 0.3}])
def test_the_saved_network_answers_images_as_the_head_answered_features(
    averaging: Any, weights: Path, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = frozen(weights, averaging=averaging)
    reports = train(config, digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    stored = record.predictions()
    assert stored is not None
    model = load_model(config, Preprocessing.read(tmp_path), tmp_path / "best.safetensors")
    trial = TrialState(small(backbone=config.backbone), digits, split, torch.device("cpu"))
    with torch.no_grad():
        answers = torch.cat([model(batch.images) for batch in trial.batches.evaluate(split.val)])
    np.testing.assert_allclose(answers.numpy(), stored.logits.astype(np.float32), atol=0.03)
    before, after = load_file(weights), load_file(tmp_path / "best.safetensors")
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert reports[-1].row is not None
    assert reports[0].row is not None
    assert reports[-1].row.train_loss < reports[0].row.train_loss


def test_a_frozen_network_says_what_no_training_changes(
    weights: Path, digits: ImageDataset, split: Split
) -> None:
    trial = TrialState(frozen(weights), digits, split, torch.device("cpu"))
    assert isinstance(trial.model, FrozenNetwork)
    assert trial.model.state_dict().keys() - trial.model.frozen_keys == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.75])
def test_dropped_features_are_scaled_up_and_keep_their_mean(rate: float) -> None:
    torch.manual_seed(0)
    kept = dropout(torch.ones(400, 250, 1, 1), rate)
    assert torch.allclose(kept[kept != 0.0], torch.tensor(1.0 / (1.0 - rate)))
    assert kept.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (kept == 0.0).float().mean().item() == pytest.approx(rate, abs=0.01)


def test_features_are_computed_once_for_all_trials(
    weights: Path, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    first, second = (
        frozen(weights, batch_size=size, seed=size, optimizer={"name": "sgd"}) for size in (16, 32)
    )
    states = [TrialState(first, digits, split, torch.device("cpu"), cache_dir=tmp_path)]
    files = sorted((tmp_path / "features").glob("*.npy"))
    assert len(files) == 1
    stored = np.load(files[0])
    assert stored.shape == (len(split.train) + len(split.val), 256)
    np.save(files[0], np.zeros_like(stored))
    states.append(TrialState(second, digits, split, torch.device("cpu"), cache_dir=tmp_path))
    one, two = (next(iter(state.batches.evaluate(split.val))).images for state in states)
    assert one.abs().sum() > 0
    assert two.abs().sum() == 0, "the second trial read what was kept"
    other = Split(split.train[:-1], split.val, split.test)
    TrialState(first, digits, other, torch.device("cpu"), cache_dir=tmp_path)
    assert len(list((tmp_path / "features").glob("*.npy"))) == 2, "another split has features of its own"


def test_a_cache_that_cannot_be_written_costs_no_trial(
    weights: Path, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    (tmp_path / "features").write_text("a file where the folder would be", encoding="utf-8")
    reports = list(fit(frozen(weights, epochs=1), digits, split, device="cpu", cache_dir=tmp_path))
    assert reports[-1].final
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("features")] == ["features"]


def test_views_are_augmented_and_taken_in_turn(weights: Path, digits: ImageDataset, split: Split) -> None:
    config = frozen(weights, views=2, augment=[{"name": "rotation", "degrees": 40.0}])
    trial = TrialState(config, digits, split, torch.device("cpu"))
    every = np.arange(len(split.train))
    zero, one, two = (
        torch.cat([batch.images for batch in trial.batches.train(every, epoch)]) for epoch in range(3)
    )
    torch.testing.assert_close(zero, two)
    assert not torch.equal(zero, one)
    clean = torch.cat(list(trial.batches.clean()))
    assert clean.shape == zero.shape
    assert not torch.equal(clean, zero)


def test_targets_and_features_stay_together(weights: Path, digits: ImageDataset, split: Split) -> None:
    trial = TrialState(frozen(weights), digits, split, torch.device("cpu"))
    order = np.random.default_rng(0).permutation(len(split.train))
    batches = list(trial.batches.train(order, 0))
    targets = torch.cat([batch.targets for batch in batches]).numpy()
    np.testing.assert_array_equal(targets, digits.labels[split.train[order]])
    features = torch.cat([batch.images for batch in batches])
    clean = torch.cat(list(trial.batches.clean()))
    torch.testing.assert_close(features, clean[torch.from_numpy(order)])


def test_a_resumed_head_equals_an_uninterrupted_one(
    weights: Path, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = frozen(weights, epochs=4, averaging="ema")
    whole = train(config, digits, split, tmp_path / "whole")
    broken = RecordFolder(tmp_path / "broken")
    for _ in itertools.islice(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"), 2):
        pass
    resumed = list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert resumed[-1].curve == whole[-1].curve
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_state_of_a_frozen_network_is_the_networks(weights: Path) -> None:
    network = build_backbone(small().backbone, 10, (8, 8), 3)
    keys = list(network.state_dict())
    head = FrozenNetwork(network, 0.0)
    assert list(head.state_dict()) == keys
    head.load_state_dict(load_file(weights))
    wrapped = torch.nn.Sequential(head)
    wrapped.load_state_dict(wrapped.state_dict())
    assert [parameter.requires_grad for parameter in head.parameters()].count(True) == 2

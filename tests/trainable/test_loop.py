"""The loop tells the truth about what it trained, and keeps it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss

from analysis.records import RecordFolder, Superseded
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import EpochReport, fit

SMALL: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 16,
    "backbone": "test_efficientnet",
    "data": {"flips": "none"},
    "optimizer": {"name": "adam", "lr": 0.005},
}


def small(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**SMALL, **changes})


def train(
    config: TrialConfig, digits: ImageDataset, split: Split, path: Path | None = None
) -> list[EpochReport]:
    record = None if path is None else RecordFolder(path)
    return list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))


def test_every_number_comes_from_the_stored_predictions(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    reports = train(small(), digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    stored = record.predictions()
    summary = record.summary
    assert stored is not None
    assert summary is not None
    best = max(reports, key=lambda report: report.macro_f1)
    assert stored.epoch == summary.best_epoch == best.epoch == reports[-1].best_epoch
    assert stored.logits.dtype == np.float16
    np.testing.assert_array_equal(stored.targets, digits.labels[split.val])
    np.testing.assert_array_equal(stored.indices, split.val)
    expected = f1_score(stored.targets, stored.logits.argmax(1), average="macro", zero_division=0)
    assert best.macro_f1 == reports[-1].best_macro_f1 == summary.macro_f1 == pytest.approx(expected, abs=1e-12)
    micro = f1_score(stored.targets, stored.logits.argmax(1), average="micro")
    assert abs(micro - best.macro_f1) > 1e-3, "the case must tell macro from micro"
    probabilities = torch.softmax(torch.from_numpy(stored.logits.astype(np.float64)), 1).numpy()
    assert best.row is not None
    assert best.row.val_loss == pytest.approx(log_loss(stored.targets, probabilities, labels=range(10)))


def test_the_record_holds_every_epoch_once(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    reports = train(small(), digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    assert [row.epoch for row in record.epochs()] == [1, 2, 3]
    assert [row.macro_f1 for row in record.epochs()] == [report.macro_f1 for report in reports]
    assert list(record.confusions()) == [1, 2, 3]
    assert all(matrix.sum() == len(split.val) for matrix in record.confusions().values())
    assert [report.final for report in reports] == [False, False, True]
    assert reports[-1].curve == tuple((report.epoch, report.macro_f1) for report in reports)
    cost = reports[-1].cost
    assert cost["parameters"] == 101_334
    assert all(cost[key] for key in ("wall_seconds", "images_per_second", "peak_host_bytes", "flops"))
    assert cost["peak_device_bytes"] is None
    assert json.dumps(cost)


def test_validation_and_test_images_are_never_trained_on(digits: ImageDataset, split: Split) -> None:
    """Scrambling the pixels and labels of all images outside the training split changes no weight."""
    rng = np.random.default_rng(0)
    images, labels = digits.images.copy(), digits.labels.copy()
    outside = np.setdiff1d(np.arange(len(labels)), split.train)
    images[outside] = rng.integers(0, 256, images[outside].shape)
    labels[outside] = rng.permutation(labels[outside])
    scrambled = ImageDataset(images, labels, digits.class_names, "x", "x", digits.given_split)
    losses = [
        [report.row.train_loss for report in train(small(), data, split) if report.row is not None]
        for data in (digits, scrambled)
    ]
    assert losses[0] == losses[1]


def test_without_a_record_nothing_is_kept_and_the_numbers_are_the_same(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    kept = train(small(), digits, split, tmp_path)
    unkept = train(small(), digits, split)
    assert [report.macro_f1 for report in kept] == [report.macro_f1 for report in unkept]


def test_the_callers_random_state_is_left_alone(digits: ImageDataset, split: Split) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    train(small(epochs=1, backbone={"name": "test_efficientnet", "drop_rate": 0.2}), digits, split)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_seeds_decide(digits: ImageDataset, split: Split) -> None:
    curves = [
        [report.row.train_loss for report in train(small(seed=seed), digits, split) if report.row]
        for seed in (0, 0, 1)
    ]
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 100.0, "weight_decay": 1.0}])
def test_divergence_ends_the_trial_with_a_reason_and_only_finite_numbers(
    optimizer: dict[str, Any], digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(optimizer=optimizer, backbone="test_byobnet", epochs=30)
    reports = train(config, digits, split, tmp_path)
    assert reports[-1].final
    assert reports[-1].diverged is not None
    assert "finite" in reports[-1].diverged
    record = RecordFolder(tmp_path)
    assert record.summary is not None
    assert record.summary.diverged == reports[-1].diverged
    assert record.summary.finished
    assert len(record.epochs()) == len(reports) - 1
    stored = record.predictions()
    assert stored is None or np.isfinite(stored.logits).all()
    again = train(config, digits, split, tmp_path)
    assert [report.diverged for report in again] == [reports[-1].diverged], "told again, not trained again"


def test_early_stopping_ends_after_patience(digits: ImageDataset, split: Split) -> None:
    rule = {"early_stopping": 2, "min_delta": 0.9}
    reports = train(small(epochs=9, training=rule), digits, split)
    assert [report.final for report in reports] == [False, False, True]


def test_select_last_stores_the_last_epoch(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    train(small(select="last"), digits, split, tmp_path)
    stored = RecordFolder(tmp_path).predictions()
    assert stored is not None
    assert stored.epoch == 3


def test_a_superseded_attempt_cannot_write(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    record = RecordFolder(tmp_path)
    record.claim("first")
    survivor = fit(small(), digits, split, record=record, attempt="first", device="cpu")
    next(survivor)
    record.claim("second")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(Superseded):
        next(survivor)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_class_without_training_images_is_no_error(digits: ImageDataset, split: Split) -> None:
    without_nine = Split(split.train[digits.labels[split.train] != 9], split.val, split.test)
    weights = {"name": "effective_number"}
    reports = train(small(class_weights=weights, epochs=1), digits, without_nine)
    assert np.isfinite(reports[-1].macro_f1)


def test_an_epoch_is_reported_as_soon_as_it_is_trained(digits: ImageDataset, split: Split) -> None:
    reports = fit(small(epochs=10_000), digits, split, device="cpu")
    assert [report.epoch for report in itertools.islice(reports, 2)] == [1, 2]


def test_whoever_may_read_a_record_may_read_its_weights(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    train(small(epochs=1), digits, split, tmp_path)
    modes = {path.stat().st_mode for path in tmp_path.iterdir() if path.is_file()}
    assert (tmp_path / "best.safetensors").exists()
    assert len(modes) == 1

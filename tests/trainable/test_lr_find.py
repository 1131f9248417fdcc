"""The range test: its suggestions by hand, and a real one on digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.errors import TailtuneError, UsageError
from tests.trainable.test_loop import small
from trainable.data.dataset import ImageDataset, Split
from trainable.lr_find import LrCurve, find_lr, smoothed


def test_the_three_suggestions_of_a_curve_made_by_hand() -> None:
    """A loss that falls as a logistic curve about 1e-3, is lowest at 1, and climbs from there."""
    lrs = np.geomspace(1e-6, 10.0, 71)
    position = np.log10(lrs)
    losses = 1.0 - 1.0 / (1.0 + np.exp(-4.0 * (position + 3.0))) + np.maximum(position, 0.0)
    losses -= 1e-3 * position
    curve = LrCurve(lrs, losses, losses)
    assert curve.steepest == pytest.approx(1e-3, rel=0.3)
    assert curve.minimum == pytest.approx(1.0, rel=0.3)
    assert curve.tenth_of_minimum == curve.minimum / 10
    assert curve.steepest < curve.tenth_of_minimum


def test_smoothing_is_an_exponential_mean_without_the_bias_of_its_start() -> None:
    np.testing.assert_allclose(smoothed([2.0, 2.0, 2.0]), 2.0)
    np.testing.assert_allclose(smoothed([1.0, 3.0])[1], (0.9 * 0.1 * 1.0 + 0.1 * 3.0) / (1 - 0.81))


def test_a_range_test_on_digits_trains_and_stops_where_the_loss_explodes(
    digits: ImageDataset, split: Split
) -> None:
    config = small(
        optimizer={"name": "sgd", "lr": 7.0}, backbone="test_byobnet", training={"precision": "fp32"}
    )
    curve = find_lr(config, digits, split, low=1e-4, high=1e4, steps=40, device="cpu")
    assert len(curve.lrs) == len(curve.losses) == len(curve.smoothed) < 40
    np.testing.assert_allclose(np.diff(np.log(curve.lrs)), np.log(1e8) / 39)
    assert 1e-4 <= curve.steepest <= curve.minimum < curve.lrs[-1]
    assert np.isfinite(curve.losses).all()


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": {"name": "dynamic", "power": 2.0}},
        {"class_weights": {"name": "inverse_frequency", "defer": 0.5}},
        {"classifier_retraining": {"name": "crt", "share": 0.5}},
        {"progressive_resizing": {"name": "linear", "start": 0.75}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_test_longer_than_the_trial_stays_in_its_first_epoch(
    digits: ImageDataset, split: Split, change: dict[str, Any]
) -> None:
    long, short = (
        find_lr(
            small(**change, epochs=epochs, training={"precision": "fp32"}),
            digits,
            split,
            low=1e-5,
            high=1e-3,
            steps=60,
            device="cpu",
        )
        for epochs in (100, 2)
    )
    np.testing.assert_array_equal(short.losses, long.losses)


def test_laws(digits: ImageDataset, split: Split) -> None:
    with pytest.raises(UsageError, match="0 < low < high"):
        find_lr(small(), digits, split, low=1.0, high=0.1)
    config = small(optimizer={"name": "sgd", "lr": 7.0}, training={"precision": "fp32"})
    with pytest.raises(TailtuneError, match="stay finite") as refused:
        find_lr(config, digits, split, low=1e30, high=1e38, steps=10, device="cpu")
    assert "--low" in refused.value.remedy

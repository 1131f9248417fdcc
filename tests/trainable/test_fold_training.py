"""A trial of several folds: told, stored and resumed as one trial."""

from __future__ import annotations

import itertools
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.metrics import f1_score

from analysis.errors import UsageError
from analysis.intervals import interval_of
from analysis.ranking import rank
from analysis.records import RecordFolder, TrialInfo, TrialRecord, TrialState
from tests.trainable.test_loop import small
from tests.trainable.test_resume import untimed
from trainable.bundle import Preprocessing
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.data.normalisation import channel_statistics
from trainable.folds import make_folds
from trainable.loop import EpochReport, fit

EPOCHS = 2


def folded(**changes: Any) -> TrialConfig:
    return small(epochs=EPOCHS, data={"flips": "none", "folds": 3}, **changes)


def train(config: TrialConfig, digits: ImageDataset, split: Split, path: Path) -> list[EpochReport]:
    return list(fit(config, digits, split, record=RecordFolder(path), checkpoint_seconds=0, device="cpu"))


def test_folds_are_trained_one_after_the_other_and_told_as_one_curve(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    reports = train(folded(), digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    rows = record.epochs()
    assert [row.epoch for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.fold for row in rows] == [1, 1, 2, 2, 3, 3]
    assert [report.final for report in reports] == [False] * 5 + [True]
    own = [row.macro_f1 for row in rows]
    done = [max(own[0:2]), max(own[2:4])]
    expected = [own[0], own[1], fmean([done[0], own[2]]), fmean([done[0], own[3]])]
    expected += [fmean([*done, own[4]]), fmean([*done, own[5]])]
    assert [report.macro_f1 for report in reports] == expected
    assert reports[-1].curve == tuple(enumerate(expected, 1))


def test_out_of_fold_predictions_are_stored_and_give_the_trials_value(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    reports = train(folded(), digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    stored, summary = record.predictions(), record.summary
    assert stored is not None
    assert summary is not None
    pool = np.sort(np.concatenate([split.train, split.val]))
    np.testing.assert_array_equal(stored.indices, pool)
    np.testing.assert_array_equal(stored.targets, digits.labels[pool])
    expected = f1_score(stored.targets, stored.classes, average="macro", zero_division=0)
    assert reports[-1].best_macro_f1 == summary.macro_f1 == pytest.approx(expected, abs=1e-12)
    info = TrialInfo(number=0, state=TrialState.COMPLETE)
    (ranked,) = rank([TrialRecord(record, info, summary)]).rows
    assert ranked.interval == interval_of(stored.targets, stored.classes, 10), "of every image, out of fold"
    best = max(record.epochs(), key=lambda row: row.macro_f1)
    assert summary.best_epoch == stored.epoch == best.epoch
    assert summary.train_class_counts is not None
    assert sum(summary.train_class_counts) == pytest.approx(len(pool) * 2 / 3, abs=5)
    config = folded()
    fold = make_folds(digits, split, 3, config.data.split_seed)[best.fold - 1]
    mean = channel_statistics(digits, fold.train).mean
    assert Preprocessing.read(tmp_path).mean == pytest.approx(mean), "the kept weights' own normalisation"


@pytest.mark.parametrize(("stop", "select"), [(2, "best"), (3, "last")], ids=["between folds", "within one"])
def test_a_resume_in_any_fold_is_exact(
    stop: int, select: str, digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = folded(select=select, averaging={"name": "ema"})
    reports = train(config, digits, split, tmp_path / "whole")
    broken = RecordFolder(tmp_path / "broken")
    for _ in itertools.islice(
        fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"), stop
    ):
        pass
    resumed = train(config, digits, split, broken.path)
    assert [report.epoch for report in resumed] == list(range(stop, 7))
    assert resumed[-1].curve == reports[-1].curve
    assert resumed[-1].best_macro_f1 == reports[-1].best_macro_f1
    whole = RecordFolder(tmp_path / "whole")
    assert [untimed(row) for row in broken.epochs()] == [untimed(row) for row in whole.epochs()]
    one, two = whole.predictions(), broken.predictions()
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.logits, two.logits)
    assert one.epoch == two.epoch
    first, second = (load_file(record.path / "best.safetensors") for record in (whole, broken))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def test_the_last_epoch_stands_for_its_fold_where_that_is_the_rule(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    train(folded(select="last"), digits, split, tmp_path)
    record = RecordFolder(tmp_path)
    lasts = [row for row in record.epochs() if row.epoch % EPOCHS == 0]
    assert record.summary is not None
    assert record.summary.best_epoch == max(lasts, key=lambda row: row.macro_f1).epoch


def test_early_stopping_ends_a_fold_not_the_trial(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    rule = {"early_stopping": 1, "min_delta": 0.99}
    config = small(epochs=5, data={"flips": "none", "folds": 2}, training=rule)
    reports = train(config, digits, split, tmp_path)
    assert [row.fold for row in RecordFolder(tmp_path).epochs()] == [1, 1, 2, 2]
    assert [report.final for report in reports] == [False, False, False, True]


def test_test_images_are_never_looked_at(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    outside = np.setdiff1d(np.arange(len(digits.labels)), np.concatenate([split.train, split.val]))
    labels = digits.labels.copy()
    labels[outside] = 0
    scrambled = ImageDataset(digits.images, labels, digits.class_names, "x", "x", digits.given_split)
    with_test = Split(split.train, split.val, outside[:50])
    one = train(folded(), digits, split, tmp_path / "one")
    two = train(folded(), scrambled, with_test, tmp_path / "two")
    assert one[-1].curve == two[-1].curve


def test_folds_larger_than_a_class_are_refused_before_anything_is_trained(
    digits: ImageDataset, split: Split
) -> None:
    config = small(data={"folds": 30})
    with pytest.raises(UsageError, match="folds must be at most"):
        next(fit(config, digits, split, device="cpu"))

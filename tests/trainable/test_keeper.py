"""Large files are written as often as they are worth it, and a kill in between loses nothing but time."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from analysis.atomic import CannotWrite
from analysis.records import RecordFolder, Summary, Superseded
from tests.trainable.test_loop import small
from tests.trainable.test_resume import untimed
from trainable import keeper
from trainable.checkpoint import epoch_of_weights, save_checkpoint
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.keeper import Keeper
from trainable.loop import EpochReport, fit


class Clock:
    """Shows what it is told to; a checkpoint of `took` seconds moves it on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, took: float) -> None:
        self.now, self.saved, self.took = 0.0, 0, took
        monkeypatch.setattr(keeper.time, "perf_counter", lambda: self.now)
        save = keeper.save_checkpoint

        def slow(*arguments: object) -> None:
            save(*arguments)
            self.now += self.took
            self.saved += 1

        monkeypatch.setattr(keeper, "save_checkpoint", slow)


@pytest.mark.parametrize(
    ("seconds", "took", "expected"),
    [
        (6.0, 0.01, [True] * 6),
        (2.5, 0.01, [False, True, False, True, False, True]),
        (4.0, 0.1, [False, True, False, False, True, False, False, True]),
        (4.0, 0.01, [False, True, False, True]),
        (150.0, 60.0, [True, False, True, False, True]),
    ],
    ids=["long epochs", "short ones", "a hundredth of the time", "cheap ones", "never above five minutes"],
)
def test_a_checkpoint_comes_when_it_is_worth_it(
    seconds: float,
    took: float,
    expected: list[bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, written = Clock(monkeypatch, took), []
    kept = Keeper(RecordFolder(tmp_path), None)
    for epoch in range(1, len(expected) + 1):
        before, clock.now = clock.saved, clock.now + seconds
        kept.epoch(np.eye(2), None, [], Summary(epoch=epoch), dict)
        written.append(clock.saved > before)
    assert written == expected


def test_the_chosen_epochs_weights_are_there_at_the_end_whatever_the_pace(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(epochs=3)
    for path, seconds in ((tmp_path / "each", 0.0), (tmp_path / "never", 1e9)):
        record = RecordFolder(path)
        list(fit(config, digits, split, record=record, checkpoint_seconds=seconds, device="cpu"))
    assert not (tmp_path / "never" / "checkpoint.pt").exists()
    one, two = (load_file(tmp_path / name / "best.safetensors") for name in ("each", "never"))
    assert one.keys() == two.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


@pytest.mark.parametrize("reached", [True, False], ids=["reached", "fell short"])
@pytest.mark.parametrize("pause", [0.1, 20.0], ids=["no checkpoint", "a checkpoint"])
def test_weights_that_nobody_will_keep_are_not_written_at_the_end(
    reached: bool,
    pause: float,
    digits: ImageDataset,
    split: Split,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, whole, record = small(epochs=4), RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "one")
    value = list(fit(config, digits, split, record=whole, device="cpu"))[-1].best_macro_f1
    assert value is not None
    least = value if reached else value + 1e-9
    clock = Clock(monkeypatch, 0.1)
    for report in fit(config, digits, split, record=record, weights_from=least, device="cpu"):
        clock.now += pause if report.epoch == 1 else 0.1
    assert clock.saved == (0 if pause < 1.0 else 1 + reached)
    assert consistent(record, report)
    weights, checkpoint = record.path / "best.safetensors", record.path / "checkpoint.pt"
    assert weights.exists() == (reached or checkpoint.exists())
    if reached:
        assert weights.read_bytes() == (whole.path / "best.safetensors").read_bytes()
    if checkpoint.exists():  # or the trial could not be taken up from it
        spoken_of = torch.load(checkpoint, weights_only=True)["best_epoch"]
        assert epoch_of_weights(weights) == spoken_of
    again = list(fit(config, digits, split, record=record, device="cpu"))[-1]
    assert (again.curve, again.best_macro_f1) == (report.curve, value)
    assert weights.read_bytes() == (whole.path / "best.safetensors").read_bytes()


def test_a_finished_trial_with_a_checkpoint_is_told_again_not_trained_again(
    digits: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last checkpoint speaks of the weights that are there, whatever the pace."""
    clock, record = Clock(monkeypatch, 0.1), RecordFolder(tmp_path)
    told = []
    for report in fit(small(epochs=4), digits, split, record=record, device="cpu"):
        told.append(report)
        clock.now += 20.0 if report.epoch == 1 else 0.1
    assert clock.saved == 2, "after the second epoch and the last"
    again = list(fit(small(epochs=4), digits, split, record=record, device="cpu"))
    assert [(report.epoch, report.final) for report in again] == [(4, True)]
    assert (again[0].curve, again[0].best_epoch) == (told[-1].curve, told[-1].best_epoch)


def test_one_slow_write_does_not_stretch_the_pace_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, kept = Clock(monkeypatch, 3.0), Keeper(RecordFolder(tmp_path), None)
    for took in (3.0, 0.01):
        clock.took = took
        clock.now += 300.0
        kept.epoch(np.eye(2), None, [], Summary(epoch=1), dict)
    saved = clock.saved
    clock.now += 5.0
    kept.epoch(np.eye(2), None, [], Summary(epoch=1), dict)
    assert clock.saved == saved + 1


def test_a_checkpoint_of_an_older_format_is_passed_over(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    record = RecordFolder(tmp_path)
    list(fit(small(epochs=2), digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**saved, "format": 1}, tmp_path / "checkpoint.pt")
    again = list(fit(small(epochs=2), digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert [report.epoch for report in again] == [1, 2]


def test_a_trial_that_is_trained_anew_begins_with_an_empty_record(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    record, config = RecordFolder(tmp_path), small(epochs=3)
    list(fit(config, digits, split, record=record, checkpoint_seconds=1e9, device="cpu"))
    assert record.summary is not None
    assert record.summary.finished
    next(fit(config, digits, split, record=record, checkpoint_seconds=1e9, device="cpu"))
    assert record.summary.epoch == len(record.epochs()) == len(record.confusions()) == 1
    assert not (tmp_path / "best.safetensors").exists()
    record.claim("newer")
    with pytest.raises(Superseded):
        record.drop("older", after=0)
    assert record.summary.epoch == 1


@pytest.mark.parametrize("folds", [1, 2], ids=["plain", "folds"])
def test_going_on_from_an_older_checkpoint_equals_an_uninterrupted_trial(
    folds: int, digits: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record on disk is epochs further, over the end of a fold even: it goes back with it."""
    config = small(epochs=5, averaging="ema", data={"flips": "none", "folds": folds})
    whole, broken = RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "broken")
    reports = list(fit(config, digits, split, record=whole, device="cpu"))
    clock = Clock(monkeypatch, 0.0)
    kept, reached = 2, 6 if folds == 2 else 4
    begun = fit(config, digits, split, record=broken, device="cpu")
    for epoch in range(1, reached + 1):
        clock.now += 10.0 if epoch == kept else 0.1
        next(begun)
    assert (clock.saved, len(broken.epochs())) == (1, reached)
    resumed = fit(config, digits, split, record=broken, device="cpu")
    told = [next(resumed)]
    assert told[0].epoch == len(broken.epochs()) == len(broken.confusions()) == kept
    assert consistent(broken, told[0])
    told += list(resumed)
    assert [report.epoch for report in told] == list(range(kept, len(reports) + 1))
    assert told[-1].curve == reports[-1].curve
    assert told[-1].best_macro_f1 == reports[-1].best_macro_f1
    assert [untimed(row) for row in broken.epochs()] == [untimed(row) for row in whole.epochs()]
    assert consistent(broken, told[-1])
    for epoch, confusion in whole.confusions().items():
        np.testing.assert_array_equal(broken.confusions()[epoch], confusion)
    one, two = (load_file(record.path / "best.safetensors") for record in (whole, broken))
    for key in one:
        np.testing.assert_array_equal(one[key], two[key], err_msg=key)


def consistent(record: RecordFolder, report: EpochReport) -> bool:
    """Return whether summary, stored predictions and what was told are of the same epoch."""
    summary, stored = record.summary, record.predictions()
    assert summary is not None
    assert stored is not None
    told = (report.epoch, report.best_epoch, report.best_macro_f1)
    return (summary.epoch, summary.best_epoch, summary.macro_f1) == told and stored.epoch == summary.best_epoch


def test_a_divergence_after_epochs_without_a_checkpoint_is_found_again(
    digits: ImageDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainable import history

    config: TrialConfig = small(epochs=6)
    record = RecordFolder(tmp_path)
    clock = Clock(monkeypatch, 0.0)
    calls: Iterator[int] = itertools.count(1)
    real = history.divergence

    def fourth(*arguments: object) -> str | None:
        # Two calls an epoch: what is predicted and what is stored.
        return "as told" if next(calls) >= 7 else real(*arguments)

    monkeypatch.setattr(history, "divergence", fourth)
    told = []
    for report in fit(config, digits, split, record=record, device="cpu"):
        told.append(report)
        clock.now += 10.0 if report.epoch == 1 else 0.1  # the next epoch begins then
    assert (clock.saved, told[-1].epoch, told[-1].diverged) == (1, 4, "as told")
    calls = itertools.count(5)
    again = list(fit(config, digits, split, record=record, device="cpu"))
    assert [report.epoch for report in again] == [2, 3, 4]
    assert [report.diverged for report in again] == [None, None, "as told"]


def test_a_checkpoint_that_the_disk_has_no_room_for_is_no_fault_of_the_trial(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(CannotWrite, match=r"cannot write .*checkpoint\.pt: file too large"):
            save_checkpoint(RecordFolder(tmp_path), {"weights": torch.zeros(2**20)}, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []

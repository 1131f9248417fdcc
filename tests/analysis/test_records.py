"""What is written comes back; what is damaged is named; a fenced writer is stopped."""

import dataclasses
import json
import multiprocessing
import os
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from analysis import records
from analysis.atomic import CannotWrite, Claim, write_atomic
from analysis.errors import TailtuneError
from analysis.metrics import Metrics
from analysis.records import (
    CorruptRecord,
    Cost,
    EpochRow,
    Predictions,
    RecordFolder,
    Summary,
    Superseded,
    TrialInfo,
    TrialState,
    read_study,
)

METRICS = Metrics.from_confusion([[3, 1, 0], [0, 2, 0], [0, 0, 0]], [200, 30, 4])


def row(epoch: int, loss: float = 0.5) -> EpochRow:
    return EpochRow.of(epoch, METRICS, train_loss=loss, val_loss=0.6, lr=0.1, seconds=1.5)


@pytest.fixture
def folder(tmp_path: Path) -> RecordFolder:
    return RecordFolder(tmp_path / "trials" / "7")


def test_an_empty_folder_is_a_clear_state(folder: RecordFolder) -> None:
    assert folder.config_yaml is folder.trial is folder.summary is folder.predictions() is None
    assert folder.epochs() == []
    assert folder.confusions() == {}
    assert (folder.load().number, folder.load().state) == (7, TrialState.WAITING)


def test_everything_written_comes_back(folder: RecordFolder) -> None:
    info = TrialInfo(
        number=7, state=TrialState.PRUNED, value=0.25, params={"loss.name": "focal", "lr": 0.1, "on": True}
    )
    cost = Cost(wall_seconds=3.5, parameters=10, peak_device_bytes=None)
    summary = Summary(epoch=2, best_epoch=1, macro_f1=0.25, cost=cost, train_class_counts=(200, 30, 4))
    stored = Predictions(np.eye(3, dtype=np.float16), np.array([0, 1, 1]), np.array([5, 8, 9]), 2)
    folder.write_config("name: größe\n")
    folder.write_trial(info)
    folder.write_summary(summary)
    folder.write_predictions(stored)
    folder.write_confusion(2, stored.confusion())
    assert folder.config_yaml == "name: größe\n"
    assert (folder.trial, folder.summary) == (info, summary)
    found = folder.predictions()
    assert found is not None
    assert found.logits.dtype == np.float16
    assert (found.logits == stored.logits).all()
    assert (found.indices == stored.indices).all()
    assert found.epoch == 2
    assert found.confusion().tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert folder.confusions()[2].dtype == np.int32
    record = folder.load()
    assert (record.epochs, record.cost, record.diverged) == (2, cost, None)


def test_epochs_follow_each_other_and_a_resume_replaces_what_it_repeats(folder: RecordFolder) -> None:
    for epoch in (1, 2, 3):
        folder.append_epoch(row(epoch))
    folder.append_epoch(row(2, loss=0.4))
    assert folder.epochs() == [row(1), row(2, loss=0.4)]
    line = json.loads((folder.path / "epochs.jsonl").read_text().splitlines()[0])
    assert line["tail_f1"] is None
    assert line["per_class_f1"][2] is None


def test_a_row_in_the_place_of_a_written_one_is_written(folder: RecordFolder) -> None:
    rows = [row(1), row(2)]
    folder.write_epochs(rows)
    rows[1] = row(2, loss=0.4)
    folder.write_epochs(rows)
    assert folder.epochs() == [row(1), row(2, loss=0.4)]
    folder.write_epochs(rows[1:])
    assert folder.epochs() == [row(2, loss=0.4)]


def test_a_row_is_made_a_line_once(folder: RecordFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows, line = [], [], records._json
    monkeypatch.setattr(records, "_json", lambda one: made.append(one.epoch) or line(one))
    for epoch in (1, 2, 3):
        rows.append(row(epoch))
        folder.write_epochs(rows)
    assert made == [1, 2, 3]
    assert folder.epochs() == rows


def test_numbers_that_are_not_finite_are_refused(folder: RecordFolder) -> None:
    with pytest.raises(ValueError, match="finite"):
        folder.append_epoch(row(1, loss=float("nan")))
    assert folder.epochs() == []


def test_numbers_of_numpy_are_taken(folder: RecordFolder) -> None:
    folder.write_summary(Summary(epoch=np.int64(3), macro_f1=np.float32(0.5)))
    assert folder.summary == Summary(epoch=3, macro_f1=0.5)


def test_unknown_keys_are_passed_over_and_missing_ones_have_defaults(folder: RecordFolder) -> None:
    folder.write_bytes("trial.json", b'{"number": 7, "state": "COMPLETE", "mood": "good"}')
    folder.write_bytes("summary.json", b'{"epoch": 1, "cost": {"smell": 1}}')
    assert folder.trial == TrialInfo(number=7, state=TrialState.COMPLETE)
    assert folder.summary == Summary(epoch=1)


@pytest.mark.parametrize(
    ("name", "content", "law"),
    [
        ("trial.json", b'{"number": 7, "sta', "trial.json is damaged"),
        ("trial.json", b'{"number": 7, "state": "DONE"}', "state"),
        ("trial.json", b"[]", "trial.json is damaged"),
        ("trial.json", b'{"number": 7, "state": "FAIL", "format": 99}', "format 99"),
        ("summary.json", b'{"epoch": -1}', "epoch"),
        ("summary.json", b'{"epoch": 1, "macro_f1": NaN}', "macro_f1"),
        ("summary.json", b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_damaged_record_is_a_named_failure(folder: RecordFolder, name: str, content: bytes, law: str) -> None:
    folder.write_trial(TrialInfo(number=7, state=TrialState.COMPLETE))
    folder.write_bytes(name, content)
    record = folder.load()
    assert (record.number, record.state) == (7, TrialState.FAIL)
    assert law in (record.info.reason or "")
    assert name in (record.info.reason or "")


def test_damaged_rows_and_arrays_are_named(folder: RecordFolder) -> None:
    folder.append_epoch(row(1))
    path = folder.path / "epochs.jsonl"
    path.write_text(path.read_text() + '{"epoch": 2, "train_')
    with pytest.raises(CorruptRecord, match=r"epochs\.jsonl line 2"):
        folder.epochs()
    folder.write_predictions(Predictions(np.eye(9, dtype=np.float16), np.arange(9), np.arange(9), 1))
    whole = (folder.path / "predictions.npz").read_bytes()
    for content in (whole[:-40], b"", b"nonsense"):
        folder.write_bytes("predictions.npz", content)
        with pytest.raises(CorruptRecord, match=r"predictions\.npz"):
            folder.predictions()
    folder.write_predictions(Predictions(np.eye(9, dtype=np.float16), np.arange(8), np.arange(9), 1))
    with pytest.raises(CorruptRecord, match="differ in length"):
        folder.predictions()


def test_a_pickle_in_an_archive_is_not_opened(folder: RecordFolder) -> None:
    folder.claim("a")
    evil = np.array([print], dtype=object)
    np.savez(folder.path / "predictions.npz", logits=evil, targets=evil, indices=evil, epoch=1)
    with pytest.raises(CorruptRecord):
        folder.predictions()


def test_a_former_attempt_writes_nothing_more(folder: RecordFolder) -> None:
    folder.claim("first")
    folder.write_bytes("checkpoint.pt", b"1", "first")
    folder.claim("second")
    writes = (
        lambda: folder.write_bytes("checkpoint.pt", b"late", "first"),
        lambda: folder.append_epoch(row(1), "first"),
        lambda: folder.write_confusion(1, np.eye(2), "first"),
        lambda: folder.write_summary(Summary(epoch=1), "first"),
    )
    for write in writes:
        with pytest.raises(Superseded, match="'second'"):
            write()
    assert (folder.path / "checkpoint.pt").read_bytes() == b"1"
    assert not list(folder.path.rglob("*.tmp"))
    folder.write_bytes("checkpoint.pt", b"2", "second")
    assert (folder.path / "checkpoint.pt").read_bytes() == b"2"


def test_nobody_writes_before_claiming(folder: RecordFolder) -> None:
    with pytest.raises(Superseded, match="must be claimed"):
        folder.write_summary(Summary(epoch=1), "me")


def test_a_claim_waits_for_a_rename_and_clears_old_leftovers(folder: RecordFolder) -> None:
    folder.claim("a")
    old, new, theirs = folder.path / ".x.1.tmp", folder.path / ".y.1.tmp", folder.path / ".tmpAb12Cd"
    for path in (old, new, theirs):
        path.write_bytes(b"")
    for path in (old, theirs):
        os.utime(path, (time.time() - 3600,) * 2)
    folder.claim("a longer one")
    folder.claim("b")
    assert (folder.path / "attempt").read_text() == "b"
    assert (old.exists(), new.exists(), theirs.exists()) == (False, True, False)


def _write_for_ever(path: str) -> None:
    for turn in range(10**9):
        write_atomic(Path(path), bytes([turn % 256]) * 200_000)


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    for _ in range(3):
        writer = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(str(path),))
        writer.start()
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.05)
        writer.kill()
        writer.join()
        content = path.read_bytes()
        assert len(content) == 200_000
        assert len(set(content)) == 1


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TailtuneError, match="cannot write") as caught:
        RecordFolder(tmp_path / "file" / "0").write_config("a: 1")
    assert caught.value.remedy
    with pytest.raises(TailtuneError, match="cannot write"):
        Claim(tmp_path / "file" / "0", "a").take()


def test_read_study_sorts_by_number_and_skips_strangers(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        info = TrialInfo(number=number, state=TrialState.RUNNING)
        RecordFolder(tmp_path / "trials" / str(number)).write_trial(info)
    (tmp_path / "trials" / "notes").mkdir()
    assert [record.number for record in read_study(tmp_path)] == [2, 9, 10]
    with pytest.raises(TailtuneError, match="no study"):
        read_study(tmp_path / "trials" / "9")


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Cost().flops = 1


def test_what_a_writer_leaves_half_written_is_never_seen(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_atomic(path, lambda file: file.write(b"whole"))

    def fills_the_disk(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CannotWrite, match="no space left"):
        write_atomic(path, fills_the_disk)
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_large_file_is_replaced_by_a_smaller_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for content in (b"a" * 3_000_000, b"b" * 1_500_000, b"c" * 2_000_000, b"d"):
        write_atomic(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content

"""The study's folder: made once, refused when different, read again, damaged, locked, counted, kept small."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest

from analysis.errors import TailtuneError, UsageError
from tailtune.brake import STOP_FILE, Brake, Reason
from tailtune.launch import launch, relaunch
from tailtune.lock import StudyLock, driver_of
from tailtune.planning import Request
from tailtune.progress import Watcher
from tailtune.retention import Retention
from tailtune.search import Outcome
from tailtune.storage import masked, open_storage, storage_error, without_password
from tailtune.study import Study
from tailtune.study_spec import DataSpec, RetentionSpec, StudySpec
from tests.tailtune.test_optuna_bridge import run, run_all
from tests.tailtune.toy_study import ToySpace, make, spec


def test_study_yaml_and_study_db_are_there_before_anything_runs(tmp_path: Path) -> None:
    study = make(tmp_path)
    assert {path.name for path in study.folder.iterdir()} == {"study.yaml", "study.db", "trials", "lock"}
    again = Study.open(tmp_path, "toy")
    assert again.spec == study.spec
    assert again.spec.id
    assert again.optuna().direction == optuna.study.StudyDirection.MAXIMIZE


def test_an_identical_search_is_the_same_study_and_resources_may_differ(tmp_path: Path) -> None:
    first = make(tmp_path, concurrent=2)
    assert make(tmp_path, concurrent=4).spec.id == first.spec.id


def test_of_searches_that_begin_at_once_one_makes_the_study(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def begin(_: int) -> str | None:
        together.wait()
        try:
            return make(tmp_path).spec.id
        except TailtuneError:  # somebody else has the lock
            return None

    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(begin, range(4))) - {None}
    assert made == {Study.open(tmp_path, "toy").optuna().user_attrs["tailtune_id"]}


def test_a_search_that_comes_second_leaves_the_first_ones_study_alone(tmp_path: Path) -> None:
    first = make(tmp_path)
    before = (first.folder / "study.yaml").read_bytes()
    with first.locked(), pytest.raises(TailtuneError, match="one driver at a time"):
        make(tmp_path)
    assert (first.folder / "study.yaml").read_bytes() == before


def test_a_study_that_cannot_begin_leaves_no_trace_and_deletes_nothing(tmp_path: Path) -> None:
    first = make(tmp_path)
    (first.folder / "study.yaml").rename(tmp_path / "lost.yaml")
    with pytest.raises(TailtuneError, match="another study called 'toy'"):
        make(tmp_path)
    assert (first.folder / "study.db").exists()
    with pytest.raises(TailtuneError, match="storage"):
        Study.create(tmp_path / "new", spec(), storage="sqlite:////nowhere/at/all/study.db")
    assert not (tmp_path / "new" / "toy").exists()


@pytest.mark.parametrize("storage", [None, "journal:study.log"])
def test_a_storage_that_is_lost_is_not_made_anew(tmp_path: Path, storage: str | None) -> None:
    study = Study.create(tmp_path, spec(), storage=storage)
    study.ledger(ToySpace()).ask()
    file = study.folder / ("study.db" if storage is None else "study.log")
    file.unlink()
    for use in (Study.status, Study.records, lambda study: study.ledger(ToySpace())):
        with pytest.raises(TailtuneError, match="is gone"):
            use(Study.open(tmp_path, "toy"))
    with pytest.raises(TailtuneError, match="is gone"):
        Study.create(tmp_path, spec(), storage=storage)
    assert not file.exists()


def test_a_database_that_has_lost_the_study_is_one_line(tmp_path: Path) -> None:
    study = make(tmp_path)
    optuna.delete_study(study_name="toy", storage=f"sqlite:///{study.folder / 'study.db'}")
    with pytest.raises(TailtuneError, match="no study called 'toy' any more"):
        Study.open(tmp_path, "toy").status()


def test_a_study_killed_before_its_storage_was_made_can_begin(tmp_path: Path) -> None:
    study = make(tmp_path)
    (study.folder / "study.db").unlink()
    assert make(tmp_path).spec.id == study.spec.id
    run_all(Study.open(tmp_path, "toy").ledger(ToySpace()))


def test_a_different_search_under_the_name_is_refused_by_key(tmp_path: Path) -> None:
    make(tmp_path, 6, 4)
    with pytest.raises(UsageError, match=r"budget\.epochs 4, not 5") as refused:
        make(tmp_path, 6, 5)
    assert "another --study name" in refused.value.remedy
    with pytest.raises(UsageError, match=r"seed 0, not 1"):
        make(tmp_path, 6, 4, seed=1)


def test_more_trials_are_asked_for_by_resume(tmp_path: Path) -> None:
    study = make(tmp_path, 6)
    with pytest.raises(UsageError) as refused:
        make(tmp_path, 9)
    assert "tailtune resume toy --trials 9" in refused.value.remedy
    study.resize(9)
    assert Study.open(tmp_path, "toy").spec.budget.trials == 9
    with pytest.raises(UsageError, match="only grows"):
        study.resize(3)


def test_an_extended_study_is_still_the_search_that_began_it(tmp_path: Path) -> None:
    study = make(tmp_path, 4)
    study.resize(8)
    assert make(tmp_path, 4).spec.budget.trials == 8
    with pytest.raises(UsageError, match=r"budget\.epochs 4, not 5") as refused:
        make(tmp_path, 4, 5)
    assert "another --study name" in refused.value.remedy


def test_resuming_a_finished_search_needs_no_data_and_says_so(tmp_path: Path) -> None:
    study = make(tmp_path, 2, data=DataSpec(source=str(tmp_path / "gone"), fingerprint="f" * 16))
    run_all(study.ledger(ToySpace()))
    run = {"concurrent": None, "time_budget": None, "address": None}
    for trials in (None, 2):
        watcher = Watcher()
        relaunch(study, trials=trials, watcher=watcher, **run)
        assert watcher.outcome == Outcome("finished", 2, 2)
        assert watcher.ended == 2
    with pytest.raises(TailtuneError, match="gone"):
        relaunch(study, trials=4, watcher=Watcher(), **run)
    assert Study.open(tmp_path, "toy").spec.budget.trials == 2  # what cannot go on was not extended
    with pytest.raises(UsageError, match="only grows"):
        relaunch(study, trials=1, watcher=Watcher(), **run)


def test_ctrl_c_before_the_search_runs_says_how_to_go_on(tmp_path: Path) -> None:
    class Impatient(Watcher):
        def begin(self, status: Mapping[str, Any], epochs: int) -> None:
            raise KeyboardInterrupt

    request = Request(data="digits-lt", space="tiny", study="toy", trials=1, epochs=1, home=tmp_path)
    with pytest.raises(TailtuneError, match="interrupted") as interrupted:
        launch(request, Impatient())
    assert "tailtune resume toy" in interrupted.value.remedy
    assert Study.open(tmp_path, "toy").status()["state"] == "stopped"


def test_a_finished_search_can_be_extended(tmp_path: Path) -> None:
    study = make(tmp_path, 2)
    run_all(study.ledger(ToySpace()))
    assert study.status()["state"] == "finished"
    study.resize(4)
    assert study.status()["state"] == "stopped"
    run_all(study.ledger(ToySpace()))
    assert sum(study.status()["trials"].values()) == 4


def test_status_has_what_scripts_rely_on(tmp_path: Path) -> None:
    study = make(tmp_path, 3)
    assert study.status()["best"] is None
    ledger = study.ledger(ToySpace())
    assignment = ledger.ask()
    assert assignment is not None
    run(ledger, 0, assignment.config)
    ledger.ask()
    status = study.status()
    assert list(status) == ["study", "state", "asked_trials", "trials", "disk_bytes", "best", "home"]
    assert status["trials"] == {"COMPLETE": 1, "PRUNED": 0, "FAIL": 0, "RUNNING": 1, "WAITING": 0}
    assert status["best"]["number"] == 0
    assert status["best"]["macro_f1"] == study.optuna().best_value
    assert status["disk_bytes"] > (study.folder / "study.db").stat().st_size
    json.dumps(status)
    with StudyLock(study.folder):
        assert study.status()["state"] == "running"


def test_records_take_their_states_from_optuna(tmp_path: Path) -> None:
    study = make(tmp_path, 3)
    ledger = study.ledger(ToySpace())
    first, second = ledger.ask(), ledger.ask()
    assert first is not None
    assert second is not None
    run(ledger, 0, first.config)
    (first.record / "trial.json").unlink()
    assert [(r.number, r.state.name) for r in study.records()] == [(0, "COMPLETE"), (1, "RUNNING")]
    assert study.records()[0].info.value == study.optuna().trials[0].value
    assert study.config(1) == second.config
    with pytest.raises(UsageError, match="no trial 7"):
        study.config(7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format: 99\n", "format 99"),
        ("name: [unclosed", "damaged"),
        ("just words", "study.yaml"),
        ("format: 1\nname: toy\n", "data"),
        ("!!python/object/apply:os.system [true]", "damaged"),
    ],
)
def test_a_broken_study_yaml_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "study.yaml").write_text(text)
    with pytest.raises(TailtuneError, match=message) as refused:
        Study.open(tmp_path, "toy")
    assert "\n" not in str(refused.value)


def test_no_such_study_names_the_ones_there_are(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(TailtuneError, match="no study called 'tpy'") as refused:
        Study.open(tmp_path, "tpy")
    assert "toy" in refused.value.remedy


@pytest.mark.parametrize("name", ["../out", "a/b", "", ".hidden", "a b"])
def test_a_study_name_stays_in_its_home(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        StudySpec.model_validate(spec().model_dump() | {"name": name})


def test_more_starting_points_than_trials_are_refused(tmp_path: Path) -> None:
    points = [(str(lr), {"optimizer.lr": lr}) for lr in (0.1, 0.2, 0.3)]
    with pytest.raises(UsageError, match="3 of them and 2 trials"):
        Study.create(tmp_path, spec(2), start_from=points)


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TailtuneError, match="cannot make the study's folder"):
        make(tmp_path / "file")


# ---- storage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all/study.db", "cannot use the study's storage"),
        ("no url", "must be a database URL"),
        ("journal:/nowhere/at/all/study.log", "cannot use the study's storage"),
        ("madeup://host/db", "must be a database URL|not installed|cannot use"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line(tmp_path: Path, storage: str, message: str) -> None:
    with pytest.raises(TailtuneError, match=message) as refused:
        Study.create(tmp_path, spec(), storage=storage).optuna()
    assert "\n" not in str(refused.value)


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    study = make(tmp_path)
    (study.folder / "study.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(TailtuneError, match="cannot use the study's storage"):
        Study.open(tmp_path, "toy").optuna()


def test_passwords_are_in_no_file_and_no_message() -> None:
    url = "postgresql+psycopg://user:secret@host/db"
    assert "secret" not in masked(url)
    assert without_password(url) == "postgresql+psycopg://user@host/db"


@pytest.mark.parametrize("key", ["password", "passwd", "sslpassword", "PASSWORD"])
def test_passwords_in_a_query_are_in_no_file_and_no_message(key: str) -> None:
    url = f"postgresql+psycopg://host/db?user=me&{key}=s3cret&connect_timeout=5"
    for shown in (masked(url), without_password(url)):
        assert "s3cret" not in shown
        assert "user=me" in shown
        assert "connect_timeout=5" in shown
    assert "s3cret" not in str(storage_error(url, RuntimeError("no such host")))


@pytest.mark.parametrize(
    "url", ["postgres//me:s3cret/db", "s3cret@host", "postgresql://me:s3cret@host:port/db"]
)
def test_what_is_no_url_is_not_shown_and_not_stored(tmp_path: Path, url: str) -> None:
    assert "s3cret" not in without_password(url)
    with pytest.raises(UsageError, match="must be a database URL") as refused:
        open_storage(tmp_path, url)
    assert "s3cret" not in str(refused.value)


def test_a_name_taken_in_a_shared_database_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    Study.create(tmp_path / "mine", spec(), storage=url)
    with pytest.raises(TailtuneError, match="another study called 'toy'"):
        Study.create(tmp_path / "theirs", spec(), storage=url)


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    study = Study.create(tmp_path, spec(), storage="journal:study.log")
    study.ledger(ToySpace()).ask()
    with (study.folder / "study.log").open("ab") as file:
        file.write(b'{"op_code": 5, "wor')  # killed in the middle of a line
    torn = (study.folder / "study.log").read_bytes()
    resumed = Study.open(tmp_path, "toy")
    assert resumed.status()["trials"]["RUNNING"] == 1
    assert (study.folder / "study.log").read_bytes() == torn  # a reader leaves a living driver's line alone
    run_all(resumed.ledger(ToySpace()))
    assert sum(resumed.status()["trials"].values()) == 6
    open_storage(study.folder, "journal:study.log")


# ---- one driver ----------------------------------------------------------------------------------------


def test_a_second_driver_is_refused_and_death_frees_the_lock(tmp_path: Path) -> None:
    study = make(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from tailtune.lock import StudyLock\n"
        "with StudyLock(Path(sys.argv[1])): print('have it', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, study.folder], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "have it\n"
    try:
        with pytest.raises(TailtuneError, match=f"process {holder.pid} on"), study.locked():
            pass
        driver = driver_of(study.folder)
        assert driver is not None
        assert driver["pid"] == holder.pid
        assert study.request_stop()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert driver_of(study.folder) is None
    with study.locked():
        pass


def test_a_living_driver_on_another_host_is_refused_a_dead_one_is_not(tmp_path: Path) -> None:
    study = make(tmp_path)
    for age, refused in [(5.0, True), (3600.0, False)]:
        beat = {"pid": 1, "host": "elsewhere", "time": time.time() - age}
        (study.folder / "heartbeat").write_text(json.dumps(beat))
        assert (driver_of(study.folder) is not None) is refused
        if refused:
            with pytest.raises(TailtuneError, match="on elsewhere"), study.locked():
                pass
        else:
            with study.locked():
                pass


def test_a_stop_needs_a_driver(tmp_path: Path) -> None:
    study = make(tmp_path)
    assert not study.request_stop()
    with study.locked():
        assert study.request_stop()
        assert (study.folder / STOP_FILE).exists()


def test_what_pulls_the_brake(tmp_path: Path) -> None:
    brake = Brake(tmp_path)
    assert not brake.pulled()
    (tmp_path / STOP_FILE).touch()
    assert brake.pulled()
    assert brake.reason == "stop requested"
    assert not Brake(tmp_path).pulled()  # an old request stops no new driver
    late = Brake(tmp_path, time_budget_seconds=0.0)
    assert late.pulled()
    assert late.reason == "time budget"


def test_the_first_ctrl_c_pulls_the_brake_and_the_second_ends_everything(tmp_path: Path) -> None:
    brake = Brake(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    with brake.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert brake.pulled()
        assert brake.reason == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("reason", ["time budget", "stop requested", "ray died", "fault"])
def test_ctrl_c_is_heard_whatever_pulled_the_brake_before(tmp_path: Path, reason: Reason) -> None:
    brake = Brake(tmp_path)
    brake.pull(reason)
    with brake.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert brake.reason == ("interrupted" if reason == "ray died" else reason)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


# ---- retention -----------------------------------------------------------------------------------------


def weights(folder: Path, number: int, size: int = 10) -> None:
    (folder / str(number)).mkdir(exist_ok=True)
    for name in ("checkpoint.pt", "best.safetensors", "predictions.npz"):
        (folder / str(number) / name).write_bytes(b"0" * size)


def kept(folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in folder.glob("*/best.safetensors"))


def test_the_best_and_the_unfinished_keep_their_weights(tmp_path: Path) -> None:
    retention = Retention(tmp_path, RetentionSpec(keep_best=2))
    for number in range(6):
        weights(tmp_path, number)
    assert retention.ended(0, 0.5, complete=True) == []
    assert retention.ended(1, 0.6, complete=True) == []
    assert retention.ended(2, 0.4, complete=True) == [2]
    assert retention.ended(3, 0.7, complete=True) == [0]
    assert retention.ended(4, 0.9, complete=False) == [4]
    assert kept(tmp_path) == [1, 3, 5]
    assert len(list(tmp_path.glob("*/predictions.npz"))) == 6


def test_from_which_value_weights_stay_is_known_once_there_are_enough(tmp_path: Path) -> None:
    retention = Retention(tmp_path, RetentionSpec(keep_best=2))
    found = [retention.weights_from]
    for number, value in enumerate((0.5, 0.9, 0.6, 0.4, 0.7)):
        retention.ended(number, value, complete=number != 1)
        found.append(retention.weights_from)
    assert found == [0.0, 0.0, 0.0, 0.5, 0.5, 0.6]
    capped = Retention(tmp_path, RetentionSpec(keep_best=1, max_bytes=45))
    capped.ended(9, 0.5, complete=True)
    assert capped.weights_from == 0.0, "a smaller one may find room"


def test_the_byte_cap_spares_the_best(tmp_path: Path) -> None:
    retention = Retention(tmp_path, RetentionSpec(keep_best=5, max_bytes=45))
    for number, value in enumerate([0.5, 0.6, 0.7]):
        weights(tmp_path, number)
        retention.ended(number, value, complete=True)
    assert kept(tmp_path) == [1, 2]
    weights(tmp_path, 3, size=1000)
    retention.ended(3, 0.9, complete=True)
    assert kept(tmp_path) == [3]


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_what_is_too_large_to_stay_takes_neither_room_nor_place(order: Sequence[int], tmp_path: Path) -> None:
    rule, trials = RetentionSpec(keep_best=2, max_bytes=100), ((0.9, 20), (0.5, 20), (0.7, 1000))
    for number in order:
        weights(tmp_path, number, size=trials[number][1])
    retention = Retention(tmp_path, rule)
    for number in order:
        retention.ended(number, trials[number][0], complete=True)
    assert kept(tmp_path) == [0, 1]
    resumed = Retention(tmp_path, rule)
    for number in order:
        resumed.ended(number, trials[number][0], complete=True)
    assert kept(tmp_path) == [0, 1]


def test_a_search_deletes_what_it_need_not_keep_and_a_resume_catches_up(tmp_path: Path) -> None:
    study = make(tmp_path, 6, 2, retention=RetentionSpec(keep_best=1))
    ledger = study.ledger(ToySpace())
    while (assignment := ledger.ask()) is not None:
        done = [trial.value for trial in study.optuna().trials if trial.state.name == "COMPLETE"]
        assert assignment.weights_from == max(done, default=0.0)
        weights(study.folder / "trials", assignment.number)
        run(ledger, assignment.number, assignment.config)
    assert kept(study.folder / "trials") == [study.optuna().best_trial.number]
    weights(study.folder / "trials", 0 if study.optuna().best_trial.number else 1)  # killed before deleting
    study.resize(7)
    again = study.ledger(ToySpace()).ask()
    assert kept(study.folder / "trials") == [study.optuna().best_trial.number]
    assert again is not None
    assert again.weights_from == study.optuna().best_value


def test_making_a_study_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    make(tmp_path, 2, 2).optuna()
    assert capfd.readouterr() == ("", "")

"""Real searches on a Ray of their own: every way for a trial to end, and every way for a search to stop."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayActorError

from analysis.errors import TailtuneError, UsageError
from analysis.records import TrialState
from tailtune.exchange import Observer
from tailtune.ray_runtime import _muted, _scratch, clear_leftovers, connected_ray
from tailtune.search import Outcome, run_search
from tailtune.tune_bridge import epoch_result, reason_of
from tests.tailtune.test_chaos import drive
from tests.tailtune.toy_study import ToySpace, make
from tests.tailtune.toy_trainable import ToyTrainable, curve
from trainable.config import TrialConfig

pytestmark = pytest.mark.timeout(900)  # Ray takes a minute to start where the machine is busy


class Shared(ToyTrainable):
    """Takes what all trials share from Ray's object store."""

    def setup(self, config: dict[str, Any], data: Mapping[str, Any], threads: int) -> None:
        assert threads == 1
        assert ray.get(data["images"]) == [1, 2, 3]
        super().setup(config)


def test_every_way_for_a_trial_to_end(tmp_path: Path) -> None:
    study = make(tmp_path, 10, 5)
    words = {1: "raise@2", 3: "exit@1", 5: "nan@1", 6: "diverge@1", 7: "refuse"}
    shared = {"data": lambda: {"images": ray.put([1, 2, 3])}}
    outcome = run_search(
        study,
        ToySpace(words),
        Shared,
        shared=lambda _: {"threads": 1} | {key: value() for key, value in shared.items()},
    )
    assert outcome == Outcome("finished", 10, 10)
    trials = study.optuna().trials
    assert [trial.number for trial in trials if trial.state.name == "FAIL"] == [1, 3, 7]
    assert trials[1].user_attrs["reason"] == "RuntimeError: the toy broke"
    assert trials[3].user_attrs["reason"].startswith("its worker process is gone")
    assert trials[7].user_attrs["reason"] == "ValueError: it cannot be set up"
    for number in (5, 6):
        assert (trials[number].state.name, trials[number].value) == ("PRUNED", None)
        assert "diverged" in trials[number].user_attrs
    for trial in trials:
        config = TrialConfig.model_validate(trial.user_attrs["config"])
        epochs = range(1, len(trial.intermediate_values) + 1)
        assert trial.intermediate_values == {epoch: curve(config, epoch) for epoch in epochs}
        if trial.state.name == "COMPLETE":
            assert trial.value == curve(config, 5)
            assert trial.user_attrs["cost"] == {"wall_seconds": pytest.approx(0.5)}
            assert trial.user_attrs["host"]
    left = {path.name for path in study.folder.iterdir()}
    assert left == {"study.yaml", "study.db", "trials", "lock"}
    # A finished search says so, and starts nothing.
    assert run_search(study, ToySpace(), ToyTrainable) == outcome
    assert not ray.is_initialized()


class TellsThreads(ToyTrainable):
    """Writes down how many threads it was told to use."""

    def _begin(self, config: dict[str, Any]) -> None:
        super()._begin(config)
        (self.folder.path / "threads").write_text(str(config["threads"]))


class Crowd(Observer):
    """How many trials were at work beside each one when it began."""

    def __init__(self) -> None:
        self.working: set[int] = set()
        self.beside: dict[int, int] = {}

    def trial_started(self, number: int, config: TrialConfig, *, resumed: bool) -> None:
        self.beside[number] = len(self.working)
        self.working.add(number)

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        self.working.remove(number)


def test_the_first_trial_has_both_cores_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[run_search.__module__], "machine", lambda: (2, 0))
    study, crowd = make(tmp_path, 10, 3), Crowd()
    run_search(study, ToySpace(always="sleep=0.1"), TellsThreads, observer=crowd)
    assert [crowd.beside.pop(number) for number in (0, 1, 2)] == [0, 0, 1]
    assert max(crowd.beside.values()) == 1
    threads = [(study.folder / "trials" / str(number) / "threads").read_text() for number in range(10)]
    assert threads == ["2"] + ["None"] * 9


@pytest.mark.slow
def test_a_time_budget_leaves_trials_that_are_resumed(tmp_path: Path) -> None:
    study = make(tmp_path, 3, 6, grace=6)
    outcome = run_search(study, ToySpace(always="sleep=0.5"), ToyTrainable, time_budget_seconds=8.0)
    assert outcome.ending == "time budget"
    states = study.status()["trials"]
    assert states["RUNNING"] == 0
    assert states["WAITING"] > 0
    before = {trial.number: trial.intermediate_values for trial in study.optuna().trials}
    assert run_search(study, ToySpace(), ToyTrainable).ending == "finished"
    for trial in study.optuna().trials:
        assert trial.state.name == "COMPLETE"
        assert len(trial.intermediate_values) == 6
        assert before.get(trial.number, {}).items() <= trial.intermediate_values.items()


@pytest.mark.parametrize(
    "how",
    [
        "SIGINT",
        pytest.param("SIGTERM", marks=pytest.mark.slow),
        pytest.param("stop file", marks=pytest.mark.slow),
    ],
)
def test_a_stop_is_orderly_and_quick(tmp_path: Path, how: str) -> None:
    study = make(tmp_path, 50, 9, concurrent=3)  # with two slots the first trial would run alone
    with drive(tmp_path, "sleep=600") as driver:
        while driver.poll() is None and not study.optuna().trials:
            time.sleep(0.1)
        time.sleep(1.0)
        if how != "stop file":
            driver.send_signal(signal.Signals[how])
        else:
            assert study.request_stop()
        output = driver.communicate(timeout=120)[0]  # not the ten minutes that the epoch under way takes
    assert driver.returncode == 0, output
    assert ("stop requested" if how == "stop file" else "interrupted") in output
    assert "received at time" not in output  # Ray's own handler dumps a stack
    assert study.status()["state"] == "stopped"
    assert study.status()["trials"] | {"WAITING": 0} == dict.fromkeys(TrialState.__members__, 0)


@pytest.mark.slow
def test_no_worker_outlives_its_driver(tmp_path: Path) -> None:
    study = make(tmp_path, 50, 50, concurrent=3, grace=50)
    with drive(tmp_path) as driver:
        while driver.poll() is None and not any(trial.intermediate_values for trial in study.optuna().trials):
            time.sleep(0.05)
        workers = [psutil.Process(int(path.read_text())) for path in study.folder.glob("trials/*/pid")]
        driver.kill()
        driver.communicate()
    assert workers
    _, alive = psutil.wait_procs(workers, timeout=30)  # a busy machine takes its time even to kill
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]


class GivenThreads(ToyTrainable):
    """Takes an argument, as the real one does: in the object store it would take the driver down with Ray."""

    def setup(self, config: dict[str, Any], threads: int) -> None:
        assert threads == 1
        super().setup(config)


@pytest.mark.slow
def test_a_ray_that_dies_is_started_again(tmp_path: Path) -> None:
    study = make(tmp_path, 4, 6, grace=6)

    class KillsRay(Observer):
        killed = False

        def epoch_ended(self, number: int, epoch: int, value: float) -> None:
            if epoch == 2 and not self.killed:
                self.killed = True
                raylet = [c for c in psutil.Process().children() if c.name() == "raylet"]
                raylet[0].kill()

    observer = KillsRay()
    outcome = run_search(
        study,
        ToySpace(always="sleep=0.2"),
        GivenThreads,
        shared=lambda own: {"threads": int(own)},
        observer=observer,
    )
    assert observer.killed
    assert outcome == Outcome("finished", 4, 4)
    assert {trial.state.name for trial in study.optuna().trials} == {"COMPLETE"}
    assert all(len(trial.intermediate_values) == 6 for trial in study.optuna().trials)


@pytest.mark.slow
def test_a_storage_that_fails_ends_the_search_and_not_the_trials(tmp_path: Path) -> None:
    study = make(tmp_path, 5, 5)

    class FillsTheDisk(Observer):
        def epoch_ended(self, number: int, epoch: int, value: float) -> None:
            if epoch == 2:
                raise OSError(28, "No space left on device")

    with pytest.raises(TailtuneError, match="No space left") as error:
        run_search(study, ToySpace(), ToyTrainable, observer=FillsTheDisk())
    assert "tailtune resume toy" in error.value.remedy
    assert study.status()["trials"]["FAIL"] == 0
    assert study.status()["trials"]["RUNNING"] == 0
    assert run_search(study, ToySpace(), ToyTrainable).ending == "finished"


def test_a_database_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    study = make(tmp_path, 3, 5, grace=5)

    def execute(*lines: str) -> None:
        with contextlib.closing(sqlite3.connect(study.folder / "study.db")) as database, database:
            for line in lines:
                database.execute(line)

    class BreaksTheDatabase(Observer):
        def epoch_ended(self, number: int, epoch: int, value: float) -> None:
            fails = "BEGIN INSERT INTO nowhere VALUES (1); END"
            execute(
                f"CREATE TRIGGER IF NOT EXISTS a BEFORE INSERT ON trial_intermediate_values {fails}",
                f"CREATE TRIGGER IF NOT EXISTS b BEFORE UPDATE ON trials {fails}",
            )

    with pytest.raises(TailtuneError, match=r"could not go on: no such table: main\.nowhere; mend") as error:
        run_search(study, ToySpace(), ToyTrainable, observer=BreaksTheDatabase())
    assert "tailtune resume toy" in error.value.remedy
    execute("DROP TRIGGER a", "DROP TRIGGER b")
    assert run_search(study, ToySpace(), ToyTrainable).ending == "finished"
    assert study.status()["trials"]["COMPLETE"] == 3


def test_a_full_disk_under_a_trial_ends_the_search_and_not_the_trial(tmp_path: Path) -> None:
    study = make(tmp_path, 4, 5, concurrent=1, grace=5)
    with pytest.raises(TailtuneError, match=r"could not go on: cannot write .*no space left") as error:
        run_search(study, ToySpace({1: "full@3"}), ToyTrainable)
    assert "`tailtune resume toy`" in error.value.remedy
    assert study.status()["trials"] == dict.fromkeys(TrialState.__members__, 0) | {"COMPLETE": 1, "WAITING": 1}
    assert len(study.optuna().trials[1].intermediate_values) == 2


def test_addresses_that_cannot_work(tmp_path: Path) -> None:
    study = make(tmp_path)
    with pytest.raises(UsageError, match="Ray Client"), connected_ray(study.folder, 1, "ray://host:10001"):
        pass
    with (
        pytest.raises(TailtuneError, match="no Ray cluster answers"),
        connected_ray(study.folder, 1, "127.0.0.1:1"),
    ):
        pass


def test_native_code_is_kept_off_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with _muted():
        os.write(2, b"W gcs_client.cc: Unauthenticated")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_what_a_killed_driver_left_goes_and_what_a_living_one_has_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    killed = (
        "import os; from tailtune.ray_runtime import _scratch\n"
        "with _scratch() as scratch: print(scratch, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = os.environ | {"TMPDIR": str(root)}
    ran = subprocess.run([sys.executable, "-c", killed], capture_output=True, text=True, env=environment)
    left = Path(ran.stdout.strip())
    assert left.parent == root
    with _scratch() as mine:
        clear_leftovers()
        assert not left.exists()
        assert mine.exists()
    assert not mine.exists()
    root.rmdir()


def test_an_exception_is_one_line() -> None:
    assert reason_of(RuntimeError("one\ntwo")) == "RuntimeError: one"
    assert reason_of(KeyError()) == "KeyError"
    assert reason_of(RayActorError(error_msg="a\nnode died")) == "its worker process is gone: node died"
    assert reason_of(None)


def test_a_result_is_read_from_tunes_flat_form() -> None:
    flat = {"epoch": 2, "macro_f1": 0.5, "history": [[1, 0.4]], "cost/flops": 7, "hostname": "h", "done": False}
    result = epoch_result(flat)
    assert (result.history, result.cost, result.host) == ([(1, 0.4)], {"flops": 7}, "h")

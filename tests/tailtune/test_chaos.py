"""A driver killed at random moments of one search, and resumed at once each time."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailtune.study import Study
from tests.tailtune.toy_study import make
from tests.tailtune.toy_trainable import curve
from trainable.config import TrialConfig

KILLS = 10


@contextmanager
def drive(home: Path, words: str = "sleep=0.15") -> Iterator[subprocess.Popen[str]]:
    """Have a driver for the length of a `with`; it is dead afterwards, whatever happened."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tailtune.chaos_driver", str(home), words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as driver:
        try:
            yield driver
        finally:
            driver.kill()


def wait_for_work(study: Study, driver: subprocess.Popen[str], known: int) -> None:
    """Wait until this driver has written something, so that each kill hits a search at work."""
    while driver.poll() is None and written(study) == known:
        time.sleep(0.05)


def written(study: Study) -> int:
    return sum(1 + len(trial.intermediate_values) for trial in study.optuna().trials)


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_killed_ten_times_and_resumed_at_once(tmp_path: Path) -> None:
    study = make(tmp_path, 40, 9, concurrent=2, factor=3)
    draw = random.Random(4)
    finished_before: dict[int, object] = {}
    kills = 0
    while True:
        known = written(study)
        with drive(tmp_path) as driver:
            if kills < KILLS:
                wait_for_work(study, driver, known)
                time.sleep(draw.uniform(0.0, 3.0))
            else:
                driver.wait(timeout=600)
            killed = driver.poll() is None
            driver.kill()  # the driver alone: its Ray must die by itself
            output = driver.communicate()[0]
        done = {t.number: t for t in study.optuna().trials if t.state.is_finished()}
        assert finished_before == {n: done[n] for n in finished_before}, "a finished trial changed"
        finished_before = dict(done)
        if not killed:
            assert driver.returncode == 0, output
            break
        kills += 1
    assert kills == KILLS, f"the search was over after {kills} kills; make it longer"
    trials = study.optuna().trials
    counted = [trial for trial in trials if "replaced" not in trial.user_attrs]
    assert len(counted) == 40
    assert all(trial.state.is_finished() for trial in trials)
    assert {trial.state.name for trial in counted} == {"COMPLETE", "PRUNED"}, [t.user_attrs for t in counted]
    assert len({trial.user_attrs["fingerprint"] for trial in counted}) == 40
    for trial in counted:
        config = TrialConfig.model_validate(trial.user_attrs["config"])
        epochs = range(1, len(trial.intermediate_values) + 1)
        assert trial.intermediate_values == {epoch: curve(config, epoch) for epoch in epochs}
        assert (trial.state.name == "COMPLETE") == (len(epochs) == 9)

"""A study in PostgreSQL: a driver killed, the search resumed, and the password nowhere on the disk."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import TailtuneError
from tailtune.storage import ENVIRONMENT
from tailtune.study import Study
from tests.tailtune.test_chaos import drive, wait_for_work, written
from tests.tailtune.toy_study import spec

PASSWORD = "open-sesame-7"
FOUND = shutil.which("initdb") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(FOUND is None, reason="the programs of a PostgreSQL server are not installed"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="the extra `postgres` is missing"),
]


@pytest.fixture
def url() -> Iterator[str]:
    """A server of its own on the loopback address, for the length of a test."""
    assert FOUND is not None
    user = "postgres" if os.getuid() == 0 else None  # the server refuses to run as root
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(tempfile.mkdtemp(prefix="pg-"))  # not tmp_path, whose parents are closed to other users
    (root / "password").write_text(PASSWORD)
    for path in (root / "password", root):
        if user is not None:
            shutil.chown(path, user)

    def call(program: str, *words: str) -> None:
        command = [str(Path(FOUND).parent / program), "-D", str(root / "data"), *words]
        with (root / "log").open("ab") as log:
            subprocess.run(command, check=True, user=user, cwd=root, stdout=log, stderr=log)

    try:
        call("initdb", "-U", "tuner", "-A", "scram-sha-256", f"--pwfile={root / 'password'}")
        call("pg_ctl", "-w", "-o", f"-p {port} -h 127.0.0.1 -k {root}", "start")
        try:
            yield f"postgresql+psycopg://tuner:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(root)


def test_a_killed_search_in_postgresql_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = Study.create(tmp_path, spec(6, 5, grace=5), storage=url)
    with pytest.raises(TailtuneError, match="tuner@127") as error:
        Study.open(tmp_path, "toy").optuna()
    assert ENVIRONMENT in error.value.remedy
    monkeypatch.setenv(ENVIRONMENT, url)
    study = Study.open(tmp_path, "toy")
    with drive(tmp_path) as driver:
        wait_for_work(study, driver, written(study))
        driver.kill()
        driver.communicate()
    assert study.status()["state"] == "stopped"
    with drive(tmp_path) as driver:
        output = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, output
    # One that was killed before it had a configuration counts for nothing.
    trials = [trial for trial in study.optuna().trials if "replaced" not in trial.user_attrs]
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert all(len(trial.intermediate_values) == 5 for trial in trials)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    for opened in (created, study):
        opened._storage.engine.dispose()  # or psycopg complains of connections left open
    monkeypatch.setenv(ENVIRONMENT, url.replace(PASSWORD, "wrong-one-9"))
    with pytest.raises(TailtuneError, match="password authentication failed") as refused:
        Study.open(tmp_path, "toy").optuna()
    assert "wrong-one-9" not in str(refused.value)

"""The dashboard: it answers on the study, takes a free port, and says so where a port is taken."""

from __future__ import annotations

import json
import socket
import urllib.request
from pathlib import Path

import optuna
import pytest

from analysis.errors import TailtuneError
from tailtune.dashboard import Dashboard


@pytest.fixture
def storage(tmp_path: Path) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, study_name="digits", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("lr", 0, 1), n_trials=2)
    return storage


def test_serves_the_study_and_follows_it(storage: optuna.storages.RDBStorage) -> None:
    with Dashboard(storage, port=0) as dashboard:
        assert dashboard.url.startswith("http://127.0.0.1:")
        api = dashboard.url.replace("/dashboard/", "/api/studies")
        with urllib.request.urlopen(dashboard.url, timeout=10) as page:
            assert b"<html" in page.read().lower()
        with urllib.request.urlopen(api, timeout=10) as answer:
            assert [s["study_name"] for s in json.load(answer)["study_summaries"]] == ["digits"]
        running = optuna.load_study(study_name="digits", storage=storage)
        running.add_trial(optuna.trial.create_trial(value=0.5))
        with urllib.request.urlopen(f"{api}/1?after=0", timeout=10) as answer:
            assert len(json.load(answer)["trials"]) == 3


def test_a_taken_port_is_one_line(storage: optuna.storages.RDBStorage) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TailtuneError, match=f"port {port} is in use; .*--port") as caught:
            Dashboard(storage, port=port)
    assert caught.value.exit_status == 1


def test_no_port_and_no_host(storage: optuna.storages.RDBStorage) -> None:
    with pytest.raises(TailtuneError, match="0 … 65535, got 70000") as caught:
        Dashboard(storage, port=70000)
    assert caught.value.exit_status == 2
    with pytest.raises(TailtuneError, match="cannot listen on 192\\.0\\.2\\.1"):
        Dashboard(storage, host="192.0.2.1", port=0)

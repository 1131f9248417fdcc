"""The doctor: what it looks at, and what it calls broken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tailtune import doctor as verb
from tailtune.cli import main
from tailtune.doctor import Check, Diagnosis, examine


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # nothing listens there: no network is needed
    try:
        return examine(tmp_path_factory.mktemp("home") / "not" / "made")
    finally:
        del os.environ["HF_ENDPOINT"]


def test_this_machine_can_search(here: Diagnosis) -> None:
    found = {check.name: check for check in here.checks}
    assert here.healthy, [check for check in here.checks if check.verdict == "fail"]
    assert {
        "python",
        "torch",
        "timm",
        "optuna",
        "ray",
        "cpu cores",
        "memory",
        "bf16",
        "home",
        "ray starts",
    } <= set(found)
    assert "does not answer" in found["hub"].value
    assert found["hub"].verdict == "warn"
    assert "writable" in found["home"].value


def test_a_home_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = {check.name: check for check in examine(tmp_path / "file", ray_seconds=0.01).checks}
    assert found["home"].verdict == "fail"
    assert found["ray starts"].verdict == "fail"
    assert "no answer within 0.01 s" in found["ray starts"].value


def test_exit_status_and_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    broken = Diagnosis(
        (Check("python", "ok", "3.11"), Check("torch", "fail", "not installed", "pip install torch"))
    )
    monkeypatch.setattr("tailtune.api.doctor", lambda home: broken)
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "healthy": False,
        "checks": [
            {"name": "python", "verdict": "ok", "value": "3.11", "remedy": ""},
            {"name": "torch", "verdict": "fail", "value": "not installed", "remedy": "pip install torch"},
        ],
    }
    assert main(["doctor"]) == 1
    assert "pip install torch" in capsys.readouterr().out
    assert callable(verb)

"""One real search on the digits by the command line: searched, watched, ranked, exported, trained again."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from sklearn.metrics import f1_score

import tailtune
from tailtune.cli import main

SEARCH = ("search", "digits-lt", "--space", "tiny", "--study", "digits", "--epochs", "2", "--concurrent", "2")


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


def here(home: Path, *words: str) -> Done:
    """Run `tailtune` in this process, which has paid for its imports already."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*words, "--home", str(home)])
    return Done(status, out.getvalue(), err.getvalue())


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `tailtune` as a user does, in a folder that is not the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "tailtune", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=home,
        env=os.environ | {"TAILTUNE_HOME": str(home)},
    )


def hear_ctrl_c() -> None:
    """Undo in a child what a shell does to background jobs: they, and all they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def document(home: Path, *words: str, run: Callable[..., Any] = here) -> Any:
    """Run `tailtune … --json` and return what it printed: one document, and nothing else."""
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished search of three trials."""
    home = tmp_path_factory.mktemp("home")
    done = run(home, *SEARCH, "--trials", "3")
    assert done.returncode == 0, done.stderr
    (home / "printed").write_text(done.stdout)
    assert done.stderr == ""
    return home


def test_search_prints_progress_ranking_configuration_and_what_next(home: Path) -> None:
    printed = (home / "printed").read_text()
    assert printed.count("macro-F1 0.") >= 3
    assert "[3/3] trial" in printed
    assert "digits finished: 3 of 3 trials" in printed
    assert "Best configuration (trial" in printed
    for verb in ("rank digits", "dashboard digits", "export digits --out", "resume digits --trials 6"):
        assert f"tailtune {verb}" in printed


def test_status_and_rank_agree_with_optuna_and_scikit_learn(home: Path) -> None:
    status, ranking = document(home, "status", "digits"), document(home, "rank", "digits")
    assert (status["study"], status["state"], status["asked_trials"]) == ("digits", "finished", 3)
    assert set(status) == {"study", "state", "asked_trials", "trials", "disk_bytes", "best", "home"}
    assert sum(status["trials"].values()) == 3
    assert (ranking["study"], ranking["metric"]) == ("digits", "macro_f1")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(study_name="digits", storage=f"sqlite:///{home / 'digits' / 'study.db'}")
    trials = {trial.number: trial for trial in study.trials}
    for row in ranking["trials"]:
        trial, record = trials[row["number"]], Path(row["record"])
        assert row["state"] == trial.state.name
        lines = (record / "epochs.jsonl").read_text().splitlines()
        assert {r["epoch"]: r["macro_f1"] for r in map(json.loads, lines)} == trial.intermediate_values
        stored = np.load(record / "predictions.npz")
        expected = f1_score(
            stored["targets"], stored["logits"].argmax(axis=1), average="macro", zero_division=0
        )
        assert row["macro_f1"] == pytest.approx(expected)
        assert row["interval"][0] <= row["macro_f1"] <= row["interval"][1]
        if trial.state.name == "COMPLETE":
            assert trial.value == pytest.approx(expected)
    scores = [row["macro_f1"] for row in ranking["trials"]]
    assert scores == sorted(scores, reverse=True)


def test_rank_as_csv(home: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(here(home, "rank", "digits", "--csv").stdout)))
    assert [int(row["rank"]) for row in rows] == [1, 2, 3]


def test_the_same_search_again_says_that_it_has_finished(home: Path) -> None:
    done = here(home, *SEARCH, "--trials", "3")
    assert done.returncode == 0
    assert "digits had finished before: all 3 trials have ended" in done.stdout
    assert "had finished before" in here(home, "resume", "digits").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*SEARCH, "--trials", "4"), "tailtune resume digits --trials 4"),
        ((*SEARCH, "--trials", "3", "--seed", "1"), "seed"),
        (("resume", "digits", "--trials", "2"), "asks for 3 trials already"),
        (("export", "digits", "--trial", "77", "--out", "bundle"), "no trial 77"),
        (("search", "plankton", "--study", "digits"), "plankton"),
    ],
)
def test_a_different_search_under_the_same_name_is_refused(home: Path, words: Sequence[str], said: str) -> None:
    done = here(home, *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_resume_extends_and_api_agrees(home: Path) -> None:
    extended = document(home, "resume", "digits", "--trials", "4", run=run)
    assert extended["asked_trials"] == 4
    assert extended["state"] == "finished"
    assert len(extended["ranking"]) == 4
    assert tailtune.status("digits", home=home)["trials"] == extended["trials"]
    assert tailtune.rank("digits", home=home).to_json()["trials"] == extended["ranking"]


def test_export_then_train(home: Path) -> None:
    found = document(home, "export", "digits", "--out", str(home / "best"))
    best = document(home, "rank", "digits")["trials"]
    chosen = next(row for row in best if row["state"] == "COMPLETE")
    assert found["metrics"]["macro_f1"]["value"] == pytest.approx(chosen["macro_f1"])
    config, again = str(home / "best" / "config.yaml"), str(home / "again")
    done = here(home, "train", config, "digits-lt", "--out", again, "--set", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("epoch 1  train loss ")
    assert (home / "again" / "model.safetensors").exists()
    assert here(home, "export", "digits", "--out", str(home / "best")).returncode == 2


def test_dashboard_serves_until_ctrl_c(home: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "tailtune", "dashboard", "digits", "--port", "0", "--home", str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    url = line.split()[1]
    with urllib.request.urlopen(url.replace("/dashboard/", "/api/studies"), timeout=30) as answer:
        assert json.load(answer)["study_summaries"][0]["study_name"] == "digits"
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=30)
    assert server.returncode == 0, errors
    assert errors == ""


def test_dry_run_starts_nothing(home: Path) -> None:
    found = document(home, *SEARCH[:4], "--study", "later", "--trials", "8", "--epochs", "3", "--dry-run")
    assert found["study"] == "later"
    assert found["plan"]["trials"] == 8
    cost = found["estimate"]
    assert 0 < cost["seconds"] <= cost["seconds_at_most"]
    assert cost["memory_bytes"] > 0
    assert cost["disk_bytes"] > 0
    assert not (home / "later").exists()


@pytest.mark.chaos
def test_ctrl_c_leaves_a_study_that_can_be_resumed(home: Path) -> None:
    words = ["search", "digits-lt", "--space", "tiny", "--study", "cut", "--trials", "2", "--epochs", "400"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tailtune", *words, "--home", str(home), "--concurrent", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    epochs = home / "cut" / "trials" / "0" / "epochs.jsonl"
    for _ in range(1200):
        if epochs.exists() or process.poll() is not None:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 1, out + errors
    assert "interrupted, every finished epoch is kept" in out
    assert "tailtune resume cut" in out
    assert "Traceback" not in errors
    status = document(home, "status", "cut")
    assert status["state"] == "stopped"
    assert status["trials"]["RUNNING"] == 0
    assert status["trials"]["WAITING"] >= 1

"""The command line's manners: instant help, one-line errors, exit statuses, JSON alone on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailtune.cli import main
from tailtune.commands.options import duration, image_size
from tailtune.exchange import EpochResult
from tests.tailtune.toy_study import ToySpace, make

HEAVY = ("torch", "ray", "optuna", "timm", "sklearn", "numpy")


def test_help_is_instant_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tailtune.cli import main; main(['--help']); main(['search', '--help']);"
        f"sys.exit(' '.join(m for m in {HEAVY} if m in sys.modules) or None)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imported: {done.stderr}"
    assert "--trials" in done.stdout
    assert time.perf_counter() - start < 5.0  # well under a second on a machine that does nothing else


def test_every_command_is_a_function_of_the_package() -> None:
    code = (
        "import tailtune, typer; from tailtune.cli import app;"
        "names = {name.replace('-', '_') for name in typer.main.get_command(app).commands};"
        "assert all(callable(getattr(tailtune, name)) for name in names), names;"
        "print(names - set(tailtune.__all__), set(tailtune.__all__) - names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "set() {'estimate'}\n", done.stdout + done.stderr  # `search --dry-run` is `estimate`


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tailtune", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: tailtune ")


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "search" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["serch", "data"], "Did you mean 'search'"),
        (["search"], "DATA"),
        (["search", "data", "--trails", "3"], "--trails"),
        (["search", "data", "--trials", "many"], "--trials"),
        (["rank", "study", "--json", "--csv"], "--csv"),
        (["search", "data", "--image-size", "big"], "--image-size"),
        (["search", "data", "--time-budget", "soon"], "--time-budget"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--json" not in words:
        assert main(words) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert said in captured.err
        assert captured.err.startswith("tailtune: ")
        words = [*words, "--json"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err == ""
    error = json.loads(captured.out)["error"]
    assert said in error["message"]
    assert set(error) == {"message", "remedy"}


def test_what_nobody_foresaw_is_one_line_and_a_traceback_only_under_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode() -> None:
        raise ZeroDivisionError("boom\nsecond line")

    monkeypatch.setattr("tailtune.api.recipes", explode)
    assert main(["recipes"]) == 1
    captured = capsys.readouterr()
    assert (
        captured.err.strip()
        == "tailtune: unexpected ZeroDivisionError: boom; run it again with --debug for the traceback"
    )
    assert main(["recipes", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "runs/digits/study.db")

    monkeypatch.setattr("tailtune.api.recipes", full)
    assert main(["recipes"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "study.db" in captured.err
    assert "the disk is full" in captured.err


def test_library_chatter_never_stands_beside_the_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def chatty() -> list[dict[str, str]]:
        print("loading 1000 things")
        return [{"name": "v1", "source": "s", "summary": "t"}]

    monkeypatch.setattr("tailtune.api.recipes", chatty)
    assert main(["recipes", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)[0]["name"] == "v1"
    assert "loading" in captured.err


def test_a_reader_that_goes_away_is_no_failure() -> None:
    done = subprocess.run(
        f"{sys.executable} -m tailtune recipes | true", shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("45", 45), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "0s", "-5m", "5 weeks", "1h3", "s30"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration above zero"):
        duration(text)


def test_image_sizes() -> None:
    assert image_size("60x80") == (60, 80)
    assert image_size("32") == (32, 32)
    assert image_size(None) is None
    for wrong in ("", "x", "60x", "60x80x3", "-3x4", "6e1x2"):
        with pytest.raises(ValueError, match="HxW"):
            image_size(wrong)


def test_stop_says_how_to_go_on_with_what_is_finished_and_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make(tmp_path, 1)
    home = ["--home", str(tmp_path)]
    assert main(["stop", "toy", *home]) == 0
    assert capsys.readouterr().out.startswith("toy: not running. Go on with: tailtune resume toy")
    ledger = study.ledger(ToySpace())
    assert ledger.ask() is not None
    ledger.result(0, EpochResult(4, 0.5, done=True, final=True, final_value=0.5))
    assert main(["stop", "toy", *home]) == 0
    said = capsys.readouterr().out
    assert said.startswith("toy: finished. Extend it with: tailtune resume toy")
    assert said.endswith("--trials N\n")
    assert main(["stop", "toy", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out) == {"study": "toy", "was_running": False, "state": "finished"}

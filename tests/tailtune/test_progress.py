"""What a search shows of itself: counts and best, plain lines, the live picture."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from analysis.records import TrialState
from tailtune import progress
from tailtune.progress import Lines, Live, Watcher
from trainable.config import TrialConfig

STATUS = {
    "study": "digits",
    "asked_trials": 6,
    "trials": {"COMPLETE": 1, "PRUNED": 1, "FAIL": 0, "RUNNING": 0, "WAITING": 2},
    "best": {"number": 0, "macro_f1": 0.5},
}


def play(watcher: Watcher) -> Watcher:
    """A search that two trials had ended in before, and that four are left for."""
    watcher.begin(STATUS, epochs=9)
    watcher.trial_started(2, TrialConfig(), resumed=True)
    watcher.trial_started(3, TrialConfig(), resumed=False)
    watcher.epoch_ended(2, 1, 0.25)
    watcher.epoch_ended(3, 1, 0.625)
    watcher.trial_ended(2, TrialState.PRUNED, None, "diverged: loss is nan")
    watcher.epoch_ended(3, 2, 0.5)
    return watcher


def test_counts_go_on_from_earlier_runs() -> None:
    watcher = play(Watcher())
    assert watcher.counts == {"COMPLETE": 1, "PRUNED": 2, "FAIL": 0}
    assert (watcher.ended, watcher.ended_here) == (3, 1)
    assert watcher.best == (0.5, 0), "what a trial is worth is known at its end"
    assert watcher.running == {3: (2, 0.5)}
    watcher.trial_ended(3, TrialState.COMPLETE, 0.625, None)
    watcher.trial_ended(4, TrialState.PRUNED, 0.75, "stopped by ASHA at epoch 1")
    assert watcher.best == (0.625, 3)


def test_time_left_is_the_pace_of_this_run() -> None:
    watcher = Watcher()
    watcher.begin(STATUS, epochs=9)
    assert watcher.remaining is None
    watcher.trial_ended(2, TrialState.COMPLETE, 0.7, None)
    watcher.started -= 10.0
    assert watcher.remaining == pytest.approx(30.0, abs=0.5)  # ten seconds for one trial, three are left


def test_one_line_for_each_trial_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines() as lines:
        lines.decoding(5, 100)
        lines.decoding(100, 100)
        play(lines)
        lines.trial_ended(3, TrialState.COMPLETE, 0.625, None)
    assert capsys.readouterr().out.splitlines() == [
        "decoded 100 of 100 images",
        "[3/6] trial 2 PRUNED epoch 1 macro-F1 0.250  best 0.500 (trial 0)  diverged: loss is nan",
        "[4/6] trial 3 COMPLETE epoch 2 macro-F1 0.625  best 0.625 (trial 3)",
    ]


def test_the_picture_names_trials_best_and_time() -> None:
    live = Live()
    out = io.StringIO()
    console = Console(file=out, width=100)
    live.decoding(10, 20)
    console.print(live.picture())
    assert "decoded 10 of 20 images" in out.getvalue()
    play(live)
    console.print(live.picture())
    text = out.getvalue()
    assert "digits: 3/6 trials (1 complete, 2 pruned, 0 fail); best 0.500 (trial 0)" in text
    assert "2/9" in text
    assert "0.500" in text
    assert "to go" in text


def test_machines_get_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = progress.watcher(silent=True)
    with silent:
        play(silent)
    assert capsys.readouterr().out == ""
    assert isinstance(progress.watcher(), Lines)  # pytest's stdout is no terminal

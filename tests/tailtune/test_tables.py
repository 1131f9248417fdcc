"""What people read: rankings, sizes, times; square brackets are text, not markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.intervals import Interval
from analysis.ranking import RankedTrial, Ranking
from analysis.records import TrialState
from tailtune import tables
from tailtune.doctor import Check, Diagnosis


def test_ranking_marks_ties_and_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    interval = Interval(0.5, 0.4, 0.6, 0.95, ())
    rows = [
        RankedTrial(
            number=4, state=TrialState.COMPLETE, rank=1, score=0.5, interval=interval, tied_with_best=True
        ),
        RankedTrial(
            number=2, state=TrialState.PRUNED, rank=2, score=0.49, interval=interval, tied_with_best=True
        ),
        RankedTrial(number=3, state=TrialState.FAIL, rank=3, reason="KeyError: ['lr']"),
    ]
    tables.ranking(Ranking("digits", "macro_f1", 0.95, tuple(rows)), limit=2)
    text = capsys.readouterr().out
    assert "[0.400, 0.600]" in text
    assert text.count("= best") == 2  # the second row, and the footnote
    assert "1 more" in text
    tables.ranking(Ranking("digits", "macro_f1", 0.95, (rows[0], rows[2])))
    text = capsys.readouterr().out
    assert "= best" not in text
    assert "KeyError: ['lr']" in text


def test_remedies_keep_their_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    tables.diagnosis(Diagnosis((Check("extra", "warn", "missing", "pip install 'tailtune[postgres]'"),)))
    assert "pip install 'tailtune[postgres]'" in capsys.readouterr().out


def test_clock_and_size() -> None:
    assert [tables.clock(s) for s in (None, 3.4, 123, 3723)] == ["–", "0:03", "2:03", "1:02:03"]
    assert [tables.size(b) for b in (0, 1023, 1536, 3 * 1024**3)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]


def test_commands_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAILTUNE_HOME", raising=False)
    assert tables.command("rank", "digits", Path("runs")) == "tailtune rank digits"
    assert (
        tables.command("export", "d", Path("my runs"), "--out", "b")
        == "tailtune export d --out b --home 'my runs'"
    )
    monkeypatch.setenv("TAILTUNE_HOME", "/data/runs")
    assert tables.command("rank", "digits", Path("/data/runs")) == "tailtune rank digits"

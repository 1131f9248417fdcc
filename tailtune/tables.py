"""What people read at the end of a command: tables, the best configuration, what to do next."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailtune.commands.options import DEFAULT_HOME

if TYPE_CHECKING:
    from analysis.ranking import Ranking
    from tailtune.doctor import Diagnosis
    from tailtune.progress import Watcher
    from tailtune.search import Outcome
    from tailtune.study import Study

GIB = 1024**3
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}


def console() -> Console:
    """Return a console on stdout; a pipe or a file gets lines wide enough for every table."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(width=140, highlight=False)


def status(found: Mapping[str, Any]) -> None:
    """Print `status`: how far the study is, its best trial, its size."""
    counts = found["trials"]
    ended = sum(counts.get(state, 0) for state in ("COMPLETE", "PRUNED", "FAIL"))
    screen = console()
    screen.print(f"[bold]{found['study']}[/] in {found['home']}: {found['state']}")
    screen.print(f"  trials  {ended} of {found['asked_trials']} ended: " + ", ".join(
        f"{count} {state}" for state, count in counts.items() if count
    ))  # fmt: skip
    best = found.get("best")
    if best:
        screen.print(f"  best    trial {best['number']}, macro-F1 {_score(best['macro_f1'])}")
    screen.print(f"  disk    {size(found['disk_bytes'])}")


def ranking(found: Ranking, *, limit: int | None = None) -> None:
    """Print a ranking: macro-F1 with its interval, rare classes, cost; `=` marks ties with the best."""
    document = found.to_json()
    rows = document["trials"]
    table = Table(title=f"{document['study']}: trials by {document['metric']}", title_justify="left")
    for heading in ("rank", "trial", "macro-F1", "interval", "tail F1", "epochs", "time", "state", ""):
        table.add_column(heading, justify="left" if heading in {"state", ""} else "right")
    for row in rows[:limit]:
        tie = "= best" if row["tied_with_best"] and row["rank"] != 1 else ""
        table.add_row(
            str(row["rank"]), str(row["number"]), _score(row["macro_f1"]), _interval(row["interval"]),
            _score(row["tail_f1"]), str(row["epochs"]), clock(row["wall_seconds"]), row["state"],
            Text(tie or row.get("reason") or ""),
        )  # fmt: skip
    screen = console()
    screen.print(table)
    if limit is not None and len(rows) > limit:
        screen.print(f"… and {len(rows) - limit} more")
    if sum(row["tied_with_best"] for row in rows) > 1:
        screen.print("`= best`: cannot be told from the best on these validation images.")


def finished(study: Study, home: Path, watcher: Watcher) -> None:
    """Print what a search leaves: how it ended, the ranking, the best configuration, how to go on."""
    from tailtune import api

    found = study.status()
    if watcher.outcome is not None:
        console().print(_ending(watcher, watcher.outcome))
    ranking(api.rank(study), limit=10)
    screen = console()
    if found["best"]:
        screen.print(f"\n[bold]Best configuration[/] (trial {found['best']['number']}):")
        print(study.config(found["best"]["number"]).to_yaml(), end="")
    screen.print("\n[bold]Go on with[/]")
    lines = [
        (command("rank", study.name, home), "the whole ranking"),
        (command("dashboard", study.name, home), "Optuna's dashboard in the browser"),
        (command("export", study.name, home, "--out", f"best-{study.name}"), "the best model as files"),
        _go_on(study, found, home),
    ]
    width = max(len(line) for line, _ in lines)
    for line, purpose in lines:
        print(f"  {line:<{width}}  {purpose}")


def _ending(watcher: Watcher, outcome: Outcome) -> str:
    """Say in one line how the search ended."""
    trials = f"{outcome.ended_trials} of {outcome.asked_trials} trials in {clock(watcher.elapsed)}"
    if watcher.ended_here == 0 and outcome.ending == "finished":
        return f"{watcher.study} had finished before: all {outcome.asked_trials} trials have ended"
    said = {
        "finished": "finished",
        "exhausted": "finished early, the space has no other configuration",
        "interrupted": "interrupted, every finished epoch is kept",
        "stop requested": "stopped on request, every finished epoch is kept",
        "time budget": "stopped by its time budget, every finished epoch is kept",
    }
    return f"{watcher.study} {said[outcome.ending]}: {trials}"


def _go_on(study: Study, found: Mapping[str, Any], home: Path) -> tuple[str, str]:
    if found["state"] == "finished":
        more = str(found["asked_trials"] * 2)
        return command("resume", study.name, home, "--trials", more), "search on"
    return command("resume", study.name, home), "finish what was interrupted"


def estimate(found: Mapping[str, Any]) -> None:
    """Print a dry run: what would run, and what it might take."""
    screen = console()
    screen.print(f"[bold]{found['study']}[/]: nothing was started. It would run")
    for key, value in found["plan"].items():
        screen.print(f"  {key.replace('_', ' '):<14} {value}")
    cost = found["estimate"]
    screen.print(f"[bold]Estimate[/], from {cost['measured_steps']} measured steps of one configuration:")
    screen.print(f"  {'time':<14} {clock(cost['seconds'])}, at most {clock(cost['seconds_at_most'])}")
    screen.print(f"  {'memory':<14} {size(cost['memory_bytes'])}")
    screen.print(f"  {'disk':<14} {size(cost['disk_bytes'])}")


def bundle(found: Mapping[str, Any]) -> None:
    """Print what `train` or `export` has written: the folder, its files, its scores."""
    screen = console()
    screen.print(
        f"[bold]{found['out']}[/]: {', '.join(sorted([*found['sha256'], 'bundle.json']))}", soft_wrap=True
    )
    metrics = found["metrics"]
    screen.print(
        f"epoch {metrics['epoch']}, on {metrics['num_images']} images of {metrics['split']}", soft_wrap=True
    )
    for name, score in metrics.items():
        if isinstance(score, Mapping) and {"value", "interval"} <= score.keys():
            print(f"  {name:<18} {_score(score['value'])}  {_interval(score['interval'])}")


def catalogue(kind: str, found: Sequence[Mapping[str, str]]) -> None:
    """Print names with their one-line summaries and sources."""
    table = Table(box=None, pad_edge=False)
    for heading in (kind, "summary", "source"):
        table.add_column(heading)
    for entry in found:
        table.add_row(*(Text(entry[key]) for key in ("name", "summary", "source")))
    console().print(table)


def diagnosis(found: Diagnosis) -> None:
    """Print what `doctor` has found, with the remedy under each finding that needs one."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in found.checks:
        table.add_row(_MARKS[check.verdict], check.name, Text(check.value))
        if check.remedy:
            table.add_row("", "", Text(f"→ {check.remedy}"))
    screen = console()
    screen.print(table)
    screen.print(
        "ready to search" if found.healthy else "[red]no search can run before the FAIL lines are mended[/]"
    )


def command(verb: str, study: str, home: Path, *more: str) -> str:
    """Return the command line of a verb on a study, ready to be pasted."""
    words = ["tailtune", verb, study, *more]
    if home != Path(os.environ.get("TAILTUNE_HOME", DEFAULT_HOME)):
        words += ["--home", str(home)]
    return shlex.join(words)


def clock(seconds: float | None) -> str:
    """Return `1:02:03`, `2:03` or `0:03`; a dash where there is no time."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(num_bytes: float) -> str:
    """Return bytes as B, KiB, MiB or GiB."""
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"

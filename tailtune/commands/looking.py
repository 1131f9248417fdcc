"""`status`, `rank` and `dashboard`: the commands that look at a study and change nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from analysis.errors import UsageError
from tailtune.commands.answer import answer, to_json
from tailtune.commands.options import DEFAULT_HOME, Debug, Home, Json, StudyName


def enrol(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command()(status)
    app.command()(rank)
    app.command()(dashboard)


def status(study: StudyName, home: Home = DEFAULT_HOME, json: Json = False, debug: Debug = False) -> None:
    """Say how far a study is, and what is best."""
    from tailtune import api, tables

    answer(lambda: api.status(study, home=home), as_json=json, show=tables.status)


def rank(
    study: StudyName,
    csv: Annotated[bool, typer.Option("--csv", help="One CSV table on stdout.")] = False,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Rank trials by macro-F1, with 95 % intervals.

    Marks the trials that cannot be told from the best. A long upper arm of an interval says that many classes
    have too few validation images to be judged.
    """
    from tailtune import api, tables

    if csv and json:
        raise UsageError("one form of output at a time, got --csv and --json", "drop one of them")
    answer(
        lambda: api.rank(study, home=home),
        as_json=json,
        show=(lambda found: print(found.to_csv(), end="")) if csv else tables.ranking,
        document=lambda found: found.to_json(),
    )


def dashboard(
    study: StudyName,
    port: Annotated[
        int | None, typer.Option("--port", metavar="P", help="8080, or a free one where taken.")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="There is no password: think before you open it.")
    ] = "127.0.0.1",
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve Optuna's dashboard on a study.

    Also while its search runs; Ctrl-C ends it.
    """
    from tailtune import api

    def announce(url: str) -> None:
        print(
            to_json({"study": study, "url": url}) if json else f"{study}: {url}  (Ctrl-C ends it)", flush=True
        )

    api.dashboard(study, home=home, host=host, port=port, announce=announce)

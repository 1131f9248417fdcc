"""`spaces`, `recipes` and `doctor`: what there is to choose from, and what this machine can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from analysis.errors import UsageError
from tailtune.commands.answer import answer
from tailtune.commands.options import DEFAULT_HOME, Debug, Home, Json

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this one as YAML.")]


def enrol(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command()(spaces)
    app.command()(recipes)
    app.command()(doctor)


def spaces(name: Name = None, home: Home = DEFAULT_HOME, json: Json = False, debug: Debug = False) -> None:
    """List the named search spaces, or show one."""
    from tailtune import api, tables

    if name is None:
        answer(api.spaces, as_json=json, show=lambda found: tables.catalogue("space", found))
    else:
        answer(lambda: api.space(name), as_json=json, show=_print_yaml)


def recipes(
    name: Name = None,
    plot_schedule: Annotated[
        Path | None,
        typer.Option("--plot-schedule", metavar="FILE", help="Draw the recipe's learning rates (HTML)."),
    ] = None,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the recipes, or show one.

    A recipe is a whole configuration with a name and a source.
    """
    from tailtune import api, tables

    if name is None and plot_schedule is not None:
        raise UsageError("--plot-schedule draws one recipe's schedule, got no NAME", "see `tailtune recipes`")
    if name is None:
        answer(api.recipes, as_json=json, show=lambda found: tables.catalogue("recipe", found))
    else:
        answer(lambda: api.recipe(name, plot_schedule=plot_schedule), as_json=json, show=_print_yaml)


def doctor(home: Home = DEFAULT_HOME, json: Json = False, debug: Debug = False) -> None:
    """Examine this machine: versions, GPUs, memory, Ray, extras.

    Exits with 1 where something essential is broken.
    """
    from tailtune import api, tables

    found = answer(
        lambda: api.doctor(home=home), as_json=json, show=tables.diagnosis, document=lambda d: d.to_json()
    )
    if not found.healthy:
        raise typer.Exit(1)


def _print_yaml(found: dict[str, Any]) -> None:
    print(found["yaml"], end="")

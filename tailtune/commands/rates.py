"""`lr-find`: which learning rate to search around."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailtune.commands.answer import answer
from tailtune.commands.options import DEFAULT_HOME, Data, Debug, Home, ImageSize, Json, NoPretrained, image_size


def enrol(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command("lr-find")(lr_find)


def lr_find(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|RECIPE", help="A configuration file or a recipe's name.")
    ],
    data: Data,
    low: Annotated[float, typer.Option("--low", help="First learning rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--high", help="Last learning rate.")] = 10.0,
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps.")] = 100,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the curve there, as JSON and HTML.")
    ] = None,
    space_out: Annotated[
        Path | None,
        typer.Option("--space-out", metavar="FILE", help="Write a space narrowed to the suggestion."),
    ] = None,
    space: Annotated[str, typer.Option("--space", help="The named space that it narrows.")] = "default",
    size: ImageSize = None,
    no_pretrained: NoPretrained = False,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Test a range of learning rates on DATA, and suggest one."""
    from tailtune import api

    answer(
        lambda: api.lr_find(
            config,
            data,
            low=low,
            high=high,
            steps=steps,
            out=out,
            space_out=space_out,
            space=space,
            image_size=image_size(size),
            pretrained=False if no_pretrained else None,
            home=home,
        ),
        as_json=json,
        show=_show,
    )


def _show(found: dict[str, Any]) -> None:
    print(f"steepest slope  {found['steepest']:.3g}  (the suggestion)")
    print(f"minimum         {found['minimum']:.3g}  (too high to train with)")
    print(f"minimum / 10    {found['tenth_of_minimum']:.3g}")
    for path in found["files"]:
        print(f"wrote {path}")
    print(f"\nA space about the suggestion:\n{found['space_yaml']}", end="")

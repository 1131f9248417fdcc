"""The command line's surface is a promise: commands and options are frozen in `cli_surface.json`.

After a wanted change: `python -m tests.tailtune.test_cli_surface`, then review the difference.
"""

from __future__ import annotations

import json
from pathlib import Path

import typer.main

from tailtune.cli import app

FROZEN = Path(__file__).with_name("cli_surface.json")
EVERYWHERE = {"--json", "--home", "--debug"}


def surface() -> dict[str, list[str]]:
    """Return the arguments and options of each command."""
    commands = typer.main.get_command(app).commands
    return {
        name: [
            *(p.name.upper() for p in command.params if not p.opts[0].startswith("-")),
            *sorted(opt for p in command.params for opt in p.opts if opt.startswith("-")),
        ]
        for name, command in sorted(commands.items())
    }


def test_surface_is_what_was_promised() -> None:
    assert surface() == json.loads(FROZEN.read_text(encoding="utf-8"))


def test_every_command_takes_the_common_options() -> None:
    for name, options in surface().items():
        assert set(options) >= EVERYWHERE, name


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(surface(), indent=1) + "\n", encoding="utf-8")

"""The table of `make bench`: what every measure's rows look like, and the command line that they share."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One claim, measured.

    Attributes:
        measure: P1 to P9.
        what: In a few words.
        goal: As the claim says it.
        measured: Median and every run, or what stands for them.
        passes: Whether the goal is reached.
    """

    measure: str
    what: str
    goal: str
    measured: str
    passes: bool

    def __str__(self) -> str:
        cells = (self.measure, self.what, self.goal, self.measured, "yes" if self.passes else "**no**")
        return f"| {' | '.join(cells)} |"


def shown(runs: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """Return the median of `runs` and all of them.

    >>> shown([1.0, 3.0, 2.0], 1, " s")
    '2.0 s (1.0, 3.0, 2.0)'
    """
    every = ", ".join(f"{run:.{digits}f}" for run in runs)
    return f"{statistics.median(runs):.{digits}f}{unit} ({every})"


def heading(command: str) -> str:
    """Return when, where and of what the rows below are, and the table's head."""
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    machine = f"{os.cpu_count()} CPU cores ({platform.machine()}), {device}, torch {torch.__version__}"
    return (
        f"{datetime.date.today()}, {machine}, commit {git.stdout.strip() or 'unknown'}, `{command}`\n\n"
        "| id | what | goal | measured: median (every run) | passes |\n|---|---|---|---|---|"
    )


def run(measure: Callable[[int], Iterator[Row]], description: str | None) -> None:
    """Print the rows of `measure`, called with the rounds that the command line asks for, as they come."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each side, in turn")
    parser.add_argument("--no-heading", action="store_true", help="rows only")
    given = parser.parse_args()
    if not given.no_heading:
        module = sys.modules["__main__"].__spec__
        name = "benchmarks" if module is None else module.name
        print(heading(f"python -m {name} --rounds {given.rounds}"), flush=True)
    for row in measure(given.rounds):
        print(row, flush=True)

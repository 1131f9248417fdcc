"""`make bench`: one Markdown table of what is claimed, measured now on this machine.

python -m benchmarks [--rounds 5]
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess

import torch

from benchmarks import epoch_efficiency

NOT_YET = {
    "P2": "epoch against the sources' own pipeline",
    "P4": "from hand-out to first step in a warm worker",
    "P5": "memory of concurrent trials",
    "P6": "driver's CPU seconds a trial",
    "P7": "search race",
    "P9": "frozen-backbone mode",
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    cores, kind = os.cpu_count(), platform.machine()
    print(f"{datetime.date.today()}, {cores} CPU cores, {kind}, torch {torch.__version__},")
    print(f"commit {commit.stdout.strip() or 'unknown'}, `python -m benchmarks --rounds {given.rounds}`\n")
    print("| id | what | goal | measured | passes |\n|---|---|---|---|---|")
    medians = []
    for network in epoch_efficiency.NETWORKS:
        for size in epoch_efficiency.SIZES:
            found = epoch_efficiency.measure(network, size, given.rounds, 512)
            medians.append(found.median)
            shown = (
                f"{found.median:.2f} ({min(found.ratios):.2f} to {max(found.ratios):.2f}, {found.precision})"
            )
            what = f"epoch over bare step, {network}, {size[0]}x{size[1]}"
            print(f"| P1 | {what} | 0.85 | {shown} | {_word(found.median >= 0.85)} |", flush=True)
    overall = statistics.median(medians)
    print(f"| P1 | median of these | 0.90 | {overall:.2f} | {_word(overall >= 0.90)} |")
    for key, what in NOT_YET.items():
        print(f"| {key} | {what} | | not measured yet | no |")


def _word(passes: bool) -> str:
    return "yes" if passes else "no"


if __name__ == "__main__":
    main()

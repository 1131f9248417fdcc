"""`make bench`: one Markdown table of what is claimed, measured now on this machine.

    python -m benchmarks [--rounds 5] [--only epoch_efficiency …]

Each measure runs in a process of its own, so that threads, memory and a Ray of one are not another's. The
search race (P7) takes hours and has a command of its own, `python -m benchmarks.race`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.table import ROUNDS, Row, heading

MEASURES = {
    "epoch_efficiency": "P1",
    "against_sources": "P2",
    "precision_auto": "P3",
    "hand_out": "P4",
    "shared_memory": "P5",
    "driver_cost": "P6",
    "bookkeeping": "P8",
    "frozen_rate": "P9",
}


def main() -> int:
    """Measure and print the table; the exit status is 1 where a measure could not be taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each side, in turn")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES), metavar="MEASURE")
    given = parser.parse_args()
    print(heading(" ".join(["python -m benchmarks", *sys.argv[1:]])), flush=True)
    broken = 0
    for module in given.only:
        command = [sys.executable, "-m", f"benchmarks.{module}", "--rounds", str(given.rounds), "--no-heading"]
        ended = subprocess.run(command, check=False)
        if ended.returncode:
            broken = 1
            print(Row(MEASURES[module], module, "", f"ended with status {ended.returncode}", False), flush=True)
    return broken


if __name__ == "__main__":
    sys.exit(main())

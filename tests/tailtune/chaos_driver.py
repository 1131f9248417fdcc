"""The driver that the chaos test kills: `python -m tests.tailtune.chaos_driver HOME`."""

from __future__ import annotations

import sys
from pathlib import Path

from tailtune.search import run_search
from tailtune.study import Study
from tests.tailtune.toy_study import ToySpace
from tests.tailtune.toy_trainable import ToyTrainable


def main() -> None:
    """Run, or go on with, the study called `toy`."""
    study = Study.open(Path(sys.argv[1]), "toy")
    print(run_search(study, ToySpace(always=sys.argv[2]), ToyTrainable))


if __name__ == "__main__":
    main()

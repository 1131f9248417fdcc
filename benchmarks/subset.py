"""A small manifest of a folder with a folder per class, for races on few cores.

    python -m benchmarks.subset FOLDER MANIFEST.csv --classes 24 --train 0.08 --test 0.15
                                [--imbalance 10] [--thin-test]

The largest classes; of each, the first files by name for training and validation, the last ones for the test.
With `--imbalance` the share of a class that is trained on falls geometrically, to a tenth, say, at the last;
with `--thin-test` the test's does too, so that its classes have the shares that those of validation have.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path


def main() -> None:
    """Write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--train", type=float, required=True, help="share of a class, validation included")
    parser.add_argument("--test", type=float, required=True, help="share of a class")
    parser.add_argument("--imbalance", type=float, default=1.0, help="the first class's share over the last's")
    parser.add_argument("--thin-test", action="store_true", help="thin the test's classes as the training's")
    given = parser.parse_args()
    files = {path: sorted(path.iterdir()) for path in given.folder.iterdir() if path.is_dir()}
    largest = sorted(files, key=lambda path: (-len(files[path]), path.name))[: given.classes]
    with given.manifest.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out)
        table.writerow(("path", "label", "split"))
        for place, path in enumerate(largest):
            count = len(files[path])
            thinned = given.imbalance ** (-place / max(1, len(largest) - 1))
            tested = given.test * (thinned if given.thin_test else 1.0)
            for split, part in (
                ("train", files[path][: round(given.train * thinned * count)]),
                ("test", files[path][count - round(tested * count) :]),
            ):
                for file in part:
                    table.writerow((os.path.relpath(file, given.manifest.parent), path.name, split))


if __name__ == "__main__":
    main()

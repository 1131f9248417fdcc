"""The first source's versions v1 to v4, at a scale that a few CPU cores can train.

    python -m benchmarks.versions FOLDER --out DIR [--epochs 12] [--share 0.5] [--seeds 2] [--image-size 60x80]

FOLDER holds images with a natural long tail. Prints a table like the source's: accuracy, macro-F1, tail-F1,
time, memory, and the change from the version before. Small networks from random weights cannot show what the
source's large ones owe to ImageNet; what is left are the losses, sampling, mixing and schedules. Folds (v2.1,
v3) are left out: they change the estimate, not the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.recipe_cells import Outcome, described, parsed, run_recipes, spread

SOURCE = {
    "v1": ("85.2 %", "0.81"),
    "v2": ("89.1 %", "0.85"),
    "v2.1": ("88.7 %", "0.84"),
    "v3": ("90.3 %", "0.87"),
    "v4": ("91.5 %", ""),
}
LR = 0.002
"""The ConvNeXt recipes' 1e-4 fine-tunes trained weights; random ones do not move at it within a few epochs."""
BACKBONE = {"name": "test_convnext", "small_stem_up_to": 32}
"""With its published stem: the small one would cost four times as much at 60x80 pixels."""
CHANGES: Mapping[str, Mapping[str, Any]] = {
    name: {"backbone": BACKBONE, "optimizer": {"name": "adamw", "weight_decay": weight_decay, "lr": LR}}
    for name, weight_decay in (("v2", 0.001), ("v2.1", 0.01), ("v4", 0.01))
}


def row(name: str, found: Outcome, before: Outcome | None) -> str:
    """Return a line of the table."""
    accuracy, macro_f1 = SOURCE[name]
    low, high = found.interval
    change = "" if before is None else f"{found.macro_f1.mean() - before.macro_f1.mean():+.3f}"
    return (
        f"| {name} | {accuracy} | {macro_f1} | {spread(found.accuracy)} "
        f"| {found.macro_f1.mean():.3f} [{low:.3f}, {high:.3f}] | {spread(found.tail_f1)} "
        f"| {found.cpu_seconds:.0f} | {found.seconds:.0f} | {found.peak_bytes / 2**20:.0f} | {change} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    scale = parsed(__doc__, image_size="60x80", epochs=12, share=0.5, arguments=arguments)
    found = run_recipes(scale.chosen(SOURCE), scale, CHANGES)
    print(f"\n{described(scale)} The recipes' small networks from random weights.\n")
    print(
        "| version | source's accuracy | and macro-F1 | accuracy (seeds) | macro-F1 [95 %] | tail-F1 (seeds) "
        "| CPU seconds | wall seconds | peak MiB | change of macro-F1 |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    outcomes = list(found.values())
    for name, own, before in zip(found, outcomes, [None, *outcomes], strict=False):
        print(row(name, own, before))


if __name__ == "__main__":
    main()

"""The second source's ladder and its augmentation rows, at a scale that a few CPU cores can train.

    python -m benchmarks.ladder FOLDER --out DIR [--epochs 8] [--share 0.5] [--seeds 2] [--image-size 32x32]

FOLDER holds CIFAR-100 or a long-tailed part of it. Prints the source's table with its accuracies beside ours.
The source chose on its test images; here nothing is chosen, and the figures are of the validation images.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.recipe_cells import Outcome, described, parsed, run_recipes, spread
from search_spaces.recipe_book import load_recipe

SOURCE = {
    "cifar-01": ("SGD+warmup+CE", 0.75),
    "cifar-02": ("SGD+warmup+CE", 0.78),
    "cifar-03": ("SGD+warmup+CE", 0.79),
    "cifar-04": ("SGD+warmup+erasing+CE", 0.79),
    "cifar-05": ("SGD+warmup+erasing+AutoAugment+CE", 0.815),
    "cifar-06": ("Adam+warmup+erasing+AutoAugment+CE", 0.79),
    "cifar-07": ("Ranger+warmup+erasing+AutoAugment+CE", 0.65),
    "cifar-08": ("SAM+warmup+erasing+AutoAugment+CE", 0.8311),
    "cifar-09": ("SAM+warmup+erasing+AutoAugment+smoothed CE", 0.833),
    "cifar-10": ("SAM+warmup+erasing+AutoAugment+smoothed CE", 0.840),
    "cifar-11": ("SAM+warmup+erasing+AutoAugment+smoothed CE+TTA", 0.8437),
}
AUGMENTATION = {
    "cifar-02": ("crop+flip+rotation (aug-1)", 0.78),
    "cifar-04": ("… + erasing (aug-2)", 0.79),
    "cifar-05": ("… + AutoAugment (aug-3)", 0.81),
}
"""The three augmentation recipes train what these rows of the ladder train, so they are not trained twice."""


def row(name: str, method: str, source: float, found: Outcome) -> str:
    """Return a line of the table."""
    networks = f"{load_recipe(name).backbone.name} → {load_recipe(name, reduced=True).backbone.name}"
    low, high = found.interval
    return (
        f"| {name} | {networks} | {method} | {source:.3f} | {spread(found.accuracy)} "
        f"| {found.macro_f1.mean():.3f} [{low:.3f}, {high:.3f}] | {found.cpu_seconds:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print both tables."""
    scale = parsed(__doc__, image_size="32x32", epochs=8, share=0.5, arguments=arguments)
    found = run_recipes(scale.chosen(SOURCE), scale, {})
    heading = [
        "| recipe | network → ours | method | source | accuracy (seeds) | macro-F1 [95 %] | CPU seconds |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    print(f"\n{described(scale)} The recipes' small networks from random weights.\n")
    for rows in (SOURCE, AUGMENTATION):
        lines = [row(name, *rows[name], found[name]) for name in found if name in rows]
        if lines:
            print("\n".join([*heading, *lines]) + "\n")


if __name__ == "__main__":
    main()

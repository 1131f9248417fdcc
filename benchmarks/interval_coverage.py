"""How often do nominal 95 % intervals of macro-F1 hold the truth? Raw percentile bootstrap against ours.

    python -m benchmarks.interval_coverage [--runs 300] [--replicates 400] [--seed 0]

Simulation: a true confusion matrix is drawn (recalls spread around 0.3, 0.6 or 0.9, either the same for all
classes, or falling towards rare ones, or with most of the rarest never predicted at all; errors fall on other
classes unevenly), then a validation split with
the profile's counts. The truth is the macro-F1 of the true matrix at those counts. A second table counts how
often the set that ties with the best of twelve trials holds the truly best one, and how many trials it holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import percentile_interval, smoothed_replicates
from analysis.metrics import ClassCounts, confusion_matrix, macro_f1
from analysis.ties import tied_with_best

PROFILES = {
    "30 a class": np.full(10, 30),
    "10 or more a class": np.array([10, 12, 15, 20, 25, 30, 40, 60] * 3),
    "3 a class": np.full(24, 3),
    "long tail with 1s": np.array([500, 250, 120, 60, 40, 30, 20, 14, 10, 7, 5, 4, 3, 3, 2, 2, 2] + [1] * 7),
    "121 classes, 396 to 2": np.round(np.geomspace(396, 2, 121)).astype(int),
}
LEVELS = (0.3, 0.6, 0.9)
SHAPES = ("equal", "rare are worse", "rare are never predicted")
METHODS = ("raw", "smoothed", "ours")
TAILS = (0.025, 0.975)

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Found = dict[str, list[list[tuple[float, float]]]]


def truths(counts: Labels, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield a true confusion matrix `(C, C)`, rows summing to 1, for each level and shape of recall."""
    num_classes = len(counts)
    for level in LEVELS:
        for shape in SHAPES:
            recall = rng.beta(4 * level, 4 * (1 - level), num_classes)
            if shape != "equal":
                recall = np.clip(recall * np.interp(np.log(counts), [0, np.log(100)], [0.5, 1.1]), 0.02, 0.98)
            never = np.zeros(num_classes, dtype=bool)
            if shape == "rare are never predicted":
                never = rng.random(num_classes) < np.interp(np.log(counts), [0, np.log(30)], [0.8, 0.0])
            recall[never] = 0.0
            rows = rng.dirichlet(np.maximum(8 * counts / counts.sum(), 0.05), num_classes) + 1e-9
            rows[:, never] = 0.0
            np.fill_diagonal(rows, 0.0)
            rows *= ((1 - recall) / rows.sum(axis=1))[:, None]
            np.fill_diagonal(rows, recall)
            yield rows


def drawn(rows: Floats, targets: Labels, rng: np.random.Generator) -> Labels:
    """Return predictions `(N,)` drawn from the rows of the images' classes."""
    return (rng.random((len(targets), 1)) > rows[targets].cumsum(axis=1)[:, :-1]).sum(axis=1)


def raw_ends(confusion: Labels, replicates: int, rng: np.random.Generator) -> Floats:
    """Return the ends `(2,)` of the stratified bootstrap: each class's images drawn with replacement."""
    sizes = confusion.sum(axis=1)
    resampled = [rng.multinomial(n, row / n, size=replicates) for n, row in zip(sizes, confusion, strict=True)]
    ends: Floats = np.quantile(macro_f1(ClassCounts.of(np.stack(resampled, axis=1))), TAILS)
    return ends


def coverage(counts: Labels, runs: int, replicates: int, rng: np.random.Generator) -> dict[str, list[Floats]]:
    """Return by method, for each kind of truth, `(runs, 2)` of covered or not, and the interval's width."""
    targets, num_classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    found: Found = {name: [[] for _ in range(len(SHAPES) * len(LEVELS))] for name in METHODS}
    for run in range(runs):
        for kind, rows in enumerate(truths(counts, rng)):
            truth = float(macro_f1(ClassCounts.of(rows * counts[:, None])))
            classes = drawn(rows, targets, rng)
            confusion = confusion_matrix(targets, classes, num_classes)
            value = float(macro_f1(ClassCounts.of(confusion)))
            ours = smoothed_replicates(targets, classes[None], num_classes, replicates=replicates, seed=run)[0]
            interval = percentile_interval(value, ours, 0.95)
            ends = (
                raw_ends(confusion, replicates, rng),
                np.quantile(ours, TAILS),
                (interval.low, interval.high),
            )
            for name, (low, high) in zip(METHODS, ends, strict=True):
                found[name][kind].append((min(low, value) <= truth <= max(high, value), high - low))
    return {name: [np.array(kind, dtype=np.float64) for kind in kinds] for name, kinds in found.items()}


def ties(counts: Labels, runs: int, replicates: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return how often the set, and how often the leader alone, is right; and the mean size of the set."""
    targets, num_classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    right = leader_right = size = 0
    for run in range(runs):
        base = list(truths(counts, rng))[len(SHAPES)]
        shares = np.sort(rng.uniform(0.0, 0.15, 12))
        nets = [(1 - share) * base + share / num_classes for share in shares]
        best = int(np.argmax([macro_f1(ClassCounts.of(net * counts[:, None])) for net in nets]))
        classes = np.stack([drawn(net, targets, rng) for net in nets])
        draws = smoothed_replicates(targets, classes, num_classes, replicates=replicates, seed=run)
        values = macro_f1(ClassCounts.of([confusion_matrix(targets, row, num_classes) for row in classes]))
        tied = tied_with_best(values, draws)
        right, size = right + int(tied[best]), size + int(tied.sum())
        leader_right += int(values.argmax() == best)
    return right / runs, leader_right / runs, size / runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    heading = ["validation images", *(f"{n}: {c}" for n in METHODS for c in ("mean", "worst", "width"))]
    print("| " + " | ".join(heading) + " |\n" + "|---" * len(heading) + "|")
    for name, counts in PROFILES.items():
        cells = []
        for kinds in coverage(counts, args.runs, args.replicates, rng).values():
            shares = [kind[:, 0].mean() for kind in kinds]
            width = np.mean([kind[:, 1].mean() for kind in kinds])
            cells += [f"{np.mean(shares):.1%}", f"{min(shares):.1%}", f"{width:.3f}"]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("\n| validation images | the set holds the best of 12 | the leader is the best | size of the set |")
    print("|---|---|---|---|")
    for name, counts in PROFILES.items():
        right, leader, size = ties(counts, args.runs, args.replicates, rng)
        print(f"| {name} | {right:.1%} | {leader:.1%} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()

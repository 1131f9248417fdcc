"""Image size, resize policy and flips that suit a set of images, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.audit import Suggestion

LARGEST = 224
"""Side in pixels above which a first search costs more than it is likely to bring."""
SIGNAL = 0.2
"""Share of the variance of size that classes explain, from which on size is worth keeping."""
KEPT = 0.85
"""A mirroring is harmless where a linear classifier keeps at least this share of its accuracy under it."""
MOST = 8000
"""Images that the linear classifier is fitted to."""


def suggest_geometry(spread: Mapping[str, Any]) -> list[Suggestion]:
    """Return an image size and a resize policy for images of that spread (see `analysis.audit.size_spread`)."""
    heights, widths, aspects = spread["height"], spread["width"], spread["aspect"]
    if heights[0] == heights[2] and widths[0] == widths[2]:
        size, why = (int(heights[1]), int(widths[1])), "all images have this size"
    else:
        size = (_round8(heights[1]), _round8(widths[1]))
        why = f"the median is {heights[1]:g}x{widths[1]:g}, to the next multiple of 8"
    if max(size) > LARGEST:
        shrink = LARGEST / max(size)
        size = (_round8(size[0] * shrink), _round8(size[1] * shrink))
        why += f"; no side above {LARGEST} for a first search, for time grows with the area"
    policy, reason = _policy(spread, aspects)
    return [
        Suggestion("--image-size", f"{size[0]}x{size[1]}", why),
        Suggestion("--resize", policy, reason),
    ]


def _policy(spread: Mapping[str, Any], aspects: list[float]) -> tuple[str, str]:
    explained = spread["size_explained_by_class"]
    if explained >= SIGNAL:
        return "keep-scale", f"classes explain {explained:.0%} of the variance of size: size is a signal"
    if aspects[2] / aspects[0] > 1.25:
        return (
            "pad",
            f"width over height runs from {aspects[0]:.2f} to {aspects[2]:.2f}; stretching would distort",
        )
    return "stretch", "shapes hardly differ, so nothing is distorted and no pixel is spent on a border"


def suggest_flips(pictures: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int) -> Suggestion:
    """Return the mirrorings under which classes stay what they are, as far as a linear classifier can tell.

    It is fitted (ridge regression on one-hot targets) to half of the images and asked about the other half,
    as they are and mirrored. Where an orientation belongs to a class, its accuracy falls.

    Args:
        pictures: `(N, S, S)` grey.
        labels: `(N,)`.
        num_classes: C.
    """
    order = np.random.default_rng(0).permutation(len(labels))[:MOST]
    half = len(order) // 2
    fitted, asked = order[:half], pictures[order[half:]]
    weights = _ridge(_rows(pictures[fitted]), np.eye(num_classes, dtype=np.float32)[labels[fitted]])

    def accuracy(images: NDArray[np.uint8]) -> float:
        return float(np.mean((_rows(images) @ weights).argmax(axis=1) == labels[order[half:]]))

    plain = accuracy(asked)
    most = np.bincount(labels[order]).max() / len(order)
    if plain <= most + 0.02:
        return Suggestion("--flips", "none", "a linear classifier finds nothing to judge by; decide by eye")
    kept = {
        "h": accuracy(asked[:, :, ::-1]) / plain,
        "v": accuracy(asked[:, ::-1]) / plain,
        "d": accuracy(asked.swapaxes(1, 2)) / plain,
    }
    safe = {name for name, share in kept.items() if share >= KEPT}
    value = "none"
    if {"h", "v", "d"} <= safe:
        value = "dihedral"
    elif {"h", "v"} <= safe:
        value = "hv"
    elif safe & {"h", "v"}:
        value = (safe & {"h", "v"}).pop()
    reason = (
        f"a linear classifier (accuracy {plain:.2f}) keeps {kept['h']:.0%} of it on images mirrored left to "
        f"right, {kept['v']:.0%} upside down, {kept['d']:.0%} transposed"
    )
    if value == "none":
        reason += "; it may err on the side of caution: mirror by choice where orientation means nothing"
    return Suggestion("--flips", value, reason)


def _rows(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return each picture as a row of 256 numbers without mean, of unit length, and a 1."""
    side = pictures.shape[1] // 2
    small = pictures.reshape(len(pictures), side, 2, side, 2).mean(axis=(2, 4), dtype=np.float32)
    rows = small.reshape(len(pictures), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
    return np.hstack([rows, np.ones((len(rows), 1), dtype=np.float32)])


def _ridge(rows: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float32]:
    penalty = 1e-3 * len(rows) / rows.shape[1] * np.eye(rows.shape[1], dtype=np.float32)
    return np.linalg.solve(rows.T @ rows + penalty, rows.T @ wanted).astype(np.float32)


def _round8(pixels: float) -> int:
    return max(8, 8 * round(pixels / 8))

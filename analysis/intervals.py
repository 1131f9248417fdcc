"""How far a score can be trusted: a bootstrap over images, smoothed so that rare classes have a say.

The plain stratified bootstrap gives a class with one image no variance at all, and too little to one with
three: its nominal 95 % intervals held the truth in 82 % of simulations with three images a class, and in
60 % on a long tail that ends in single images; these hold it in 95 and 97 %. Here each replicate is
a draw from what the images leave possible. Image weights are exponential (Rubin's Bayesian bootstrap), and
every class has one more, imagined image of weight Gamma(`PRIOR_IMAGES`): a random image of a random class,
predicted as that one was, or, for the case that all or none were right, one that is simply right or wrong.
Weights are scaled to each class's number of images. Where a network never predicts many of the rare classes,
the imagined images credit it with hits that it would not have: the draws alone held the truth in some 40 % of
simulations on 121 classes, so `percentile_interval` also holds without that credit. Trials that are resampled
together share all weights and imagined images, so that differences between them are paired.
`benchmarks/interval_coverage.py` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.metrics import SCORES, ClassCounts, Floats, confusion_matrix, macro_f1

PRIOR_IMAGES = 2.0
"""Weight of the imagined image, in images. 1 covers about 90 % with three images a class, 2 about 94 %."""

FEW_IMAGES = 3
"""A class with fewer images than this says next to nothing of itself."""

CHUNK_BYTES = 4_000_000
"""Of image weights at a time: they stay in the processor's cache, and memory does not grow with N."""

Score = Callable[[ClassCounts], Floats]


@dataclass(frozen=True)
class Interval:
    """A score and where it may really lie.

    Attributes:
        value: The score of the images themselves; always within the interval.
        low: Lower end.
        high: Upper end.
        confidence: Nominal coverage, in (0, 1).
        untrusted_classes: Labels of present classes with fewer than three images; where there are many,
            the interval rests on what the other classes suggest of them.
    """

    value: float
    low: float
    high: float
    confidence: float
    untrusted_classes: tuple[int, ...]


def interval_of(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    metric: str = "macro_f1",
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the score of `predictions` `(N,)` against `targets` `(N,)` with its interval.

    Args:
        targets: Class of each image, 0 … C-1.
        predictions: Predicted class of each image.
        num_classes: C.
        metric: A name in `analysis.metrics.SCORES`.
        confidence: Nominal coverage, in (0, 1).
        replicates: Draws; the ends of a 95 % interval move by about 2 % of its width between seeds at 2,000.
        seed: Equal seeds give equal intervals.

    Reference: Rubin 1981, The Bayesian Bootstrap, Annals of Statistics 9(1). Smoothing: see the module.
    """
    classes = np.asarray(predictions)[None]
    draws = smoothed_replicates(
        targets, classes, num_classes, score=SCORES[metric], replicates=replicates, seed=seed
    )
    value = float(SCORES[metric](ClassCounts.of(confusion_matrix(targets, classes[0], num_classes))))
    return percentile_interval(value, draws[0], confidence, untrusted_classes(targets, num_classes))


def percentile_interval(
    value: float, draws: NDArray[np.float64], confidence: float, untrusted: tuple[int, ...] = ()
) -> Interval:
    """Return the central interval of a score's `draws` `(R,)`, stretched to hold with and without smoothing.

    Smoothing takes a rare class to be like the others, which moves the centre of the draws away from
    `value`. That is an assumption, not evidence: the ends are the outer ones of the draws as they are and of
    the draws centred on `value`.

    Args:
        value: The score of the images themselves, in [0, 1].
        draws: From `smoothed_replicates`.
        confidence: Nominal coverage, in (0, 1).
        untrusted: Passed on.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    low, high = np.quantile(draws, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    drift = float(draws.mean()) - value
    low, high = max(0.0, float(low) - max(drift, 0.0)), min(1.0, float(high) - min(drift, 0.0))
    return Interval(value, min(low, value), max(high, value), confidence, untrusted)


def untrusted_classes(targets: ArrayLike, num_classes: int) -> tuple[int, ...]:
    """Return the labels of present classes with fewer than three images."""
    counts = np.bincount(np.asarray(targets), minlength=num_classes)
    return tuple(int(label) for label in np.flatnonzero((counts > 0) & (counts < FEW_IMAGES)))


def smoothed_replicates(
    targets: ArrayLike,
    predictions: ArrayLike,
    num_classes: int,
    *,
    score: Score = macro_f1,
    replicates: int = 2000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return draws `(T, R)` of the score of T trials on the same images, paired between trials.

    Args:
        targets: Class of each image, `(N,)`, N ≥ 1.
        predictions: Predicted classes, `(T, N)`.
        num_classes: C ≥ 2.
        score: Of a stack of class counts, in [0, 1].
        replicates: R.
        seed: The only source of randomness.
    """
    labels, classes = np.asarray(targets, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if classes.ndim != 2 or classes.shape[1] != len(labels) or not len(labels):
        raise ValueError(f"predictions must be (trials, {len(labels)} images ≥ 1), got {classes.shape}")
    order = np.argsort(labels, kind="stable")
    trials = [_Trial.of(labels[order], row[order]) for row in classes]
    draws = np.empty((len(trials), replicates))
    at = 0
    for chunk in _draw(labels[order], num_classes, replicates, np.random.default_rng(seed)):
        for row, trial in zip(draws, trials, strict=True):
            row[at : at + chunk.size] = score(trial.counts(chunk))
        at += chunk.size
    return np.clip(draws, 0.0, 1.0, out=draws)  # float32 sums may overshoot by a hair


@dataclass(frozen=True)
class _Chunk:
    """Weights of r replicates: of N images, sorted by target, and of P imagined images, one a class.

    Attributes:
        weights: `(N, r)` float32.
        extra_weights: `(P, r)`.
        present: Labels of the P present classes.
        image: Position of the image that the imagined one is like, `(P, r)`.
        always: 0 where every trial is right about the imagined image, 1 where every one is wrong, else -1.
        other: A class that is not its own, for the wrong ones, `(P, r)`.
        class_counts: `(C,)`.
    """

    weights: NDArray[np.float32]
    extra_weights: NDArray[np.float64]
    present: NDArray[np.int64]
    image: NDArray[np.int64]
    always: NDArray[np.int64]
    other: NDArray[np.int64]
    class_counts: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Replicates."""
        return int(self.weights.shape[1])


def _draw(
    labels: NDArray[np.int64], num_classes: int, replicates: int, rng: np.random.Generator
) -> Iterator[_Chunk]:
    """Yield all replicates for sorted `labels` `(N,)`; what a trial gets does not depend on the others."""
    present, starts, counts = np.unique(labels, return_index=True, return_counts=True)
    per_chunk = max(1, min(replicates, CHUNK_BYTES // (4 * len(labels))))
    class_counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    for at in range(0, replicates, per_chunk):
        shape = (len(present), min(per_chunk, replicates - at))
        weights = rng.standard_exponential((len(labels), shape[1]), dtype=np.float32)
        extra = rng.standard_gamma(PRIOR_IMAGES, shape)
        scale = counts[:, None] / (np.add.reduceat(weights, starts, axis=0) + extra)
        weights *= np.repeat(scale.astype(np.float32), counts, axis=0)
        like = rng.integers(len(present) + 2, size=shape)
        source = np.minimum(like, len(present) - 1)
        yield _Chunk(
            weights=weights,
            extra_weights=extra * scale,
            present=present,
            image=starts[source] + (rng.random(shape) * counts[source]).astype(np.int64),
            always=np.maximum(like - len(present), -1),
            other=(present[:, None] + rng.integers(1, num_classes, size=shape)) % num_classes,
            class_counts=class_counts,
        )


@dataclass(frozen=True)
class _Trial:
    """One trial's predictions, with the images in groups of one predicted class, wrong and right ones apart.

    Attributes:
        labels: Sorted targets, `(N,)`.
        classes: Predicted classes, `(N,)`.
        order: Positions of the images, group by group, `(N,)`.
        starts: Where each of G groups starts in `order`.
        predicted: The groups' predicted class, `(G,)`.
        right: Whether the group was right, `(G,)`.
    """

    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: NDArray[np.int64], classes: NDArray[np.int64]) -> _Trial:
        """Return the trial with its images grouped."""
        key = 2 * classes + (classes == labels)
        order = np.argsort(key, kind="stable")
        groups, starts = np.unique(key[order], return_index=True)
        return cls(labels, classes, order, starts, groups // 2, groups % 2 == 1)

    def counts(self, chunk: _Chunk) -> ClassCounts:
        """Return the weighted counts `(r, C)` of each replicate."""
        sums = np.add.reduceat(chunk.weights[self.order], self.starts, axis=0)
        column = self._imagined(chunk)
        shape = (len(chunk.class_counts), chunk.size)
        flat = column * chunk.size + np.arange(chunk.size)
        predicted = np.zeros(shape[0] * shape[1])
        predicted += np.bincount(flat.ravel(), chunk.extra_weights.ravel(), len(predicted))
        predicted = predicted.reshape(shape)
        predicted[self.predicted[~self.right]] += sums[~self.right]
        predicted[self.predicted[self.right]] += sums[self.right]
        hits = np.zeros(shape)
        hits[self.predicted[self.right]] = sums[self.right]
        hits[chunk.present] += np.where(column == chunk.present[:, None], chunk.extra_weights, 0.0)
        return ClassCounts(hits.T, chunk.class_counts, predicted.T)

    def _imagined(self, chunk: _Chunk) -> NDArray[np.int64]:
        """Return the class that each imagined image is predicted as, `(P, r)`."""
        own = chunk.present[:, None]
        model_class, model_label = self.classes[chunk.image], self.labels[chunk.image]
        wrong = np.where(model_class == own, model_label, model_class)
        like = np.where(model_class == model_label, own, wrong)
        return np.where(chunk.always < 0, like, np.where(chunk.always == 1, chunk.other, own))

"""Trials from best to worst, from their stored predictions, with intervals and ties with the best."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import UsageError, unknown_name
from analysis.intervals import Interval, percentile_interval, smoothed_replicates, untrusted_classes
from analysis.metrics import SCORES, Metrics
from analysis.records import Cost, Predictions, TrialRecord, TrialState
from analysis.ties import tied_with_best


@dataclass(frozen=True, kw_only=True)
class RankedTrial:
    """One row of a ranking.

    Attributes:
        number: Optuna's number.
        state: Where the trial stands.
        rank: Place in the list, from 1.
        score: The ranking's metric, from the stored predictions; None where the trial is not ranked.
        interval: Of the score.
        tail_f1: Mean F1 of classes with fewer than 20 training images; None where there is none.
        tied_with_best: Whether it cannot be told from the best.
        epochs: Epochs trained.
        cost: What it took.
        record: The record's folder.
        reason: Why it is not ranked, or why it ended as it did.
    """

    number: int
    state: TrialState
    rank: int = 0
    score: float | None = None
    interval: Interval | None = None
    tail_f1: float | None = None
    tied_with_best: bool = False
    epochs: int = 0
    cost: Cost = field(default_factory=Cost)
    record: str = ""
    reason: str | None = None


@dataclass(frozen=True)
class Ranking:
    """Trials, best first; then those that run or wait, then those without a score.

    Attributes:
        study: The study's name.
        metric: What they are ranked by.
        confidence: Of intervals, and of the set of ties as a whole.
        rows: The trials.
    """

    study: str
    metric: str
    confidence: float
    rows: tuple[RankedTrial, ...]

    @property
    def best(self) -> RankedTrial | None:
        """The first trial that has ended with a score, or None."""
        return next((row for row in self.rows if _is_ranked(row)), None)

    def to_json(self) -> dict[str, Any]:
        """Return what `rank --json` prints."""
        return {
            "study": self.study,
            "metric": self.metric,
            "trials": [self._document(row) for row in self.rows],
        }

    def to_csv(self) -> str:
        """Return one line a trial, under a heading, with the cost columns; empty where there is no value."""
        documents = [self._document(row) | {"reason": row.reason} | asdict(row.cost) for row in self.rows]
        for document in documents:
            document["interval_low"], document["interval_high"] = document.pop("interval") or (None, None)
        columns = ["rank", "number", "state", self.metric, "interval_low", "interval_high", "tail_f1", "epochs"]
        columns += [*asdict(Cost()), "tied_with_best", "record", "reason"]
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(documents)
        return out.getvalue()

    def _document(self, row: RankedTrial) -> dict[str, Any]:
        document: dict[str, Any] = {
            "rank": row.rank,
            "number": row.number,
            "state": row.state.value,
            self.metric: row.score,
            "interval": None if row.interval is None else [row.interval.low, row.interval.high],
            "tail_f1": row.tail_f1,
            "epochs": row.epochs,
            "wall_seconds": row.cost.wall_seconds,
            "record": row.record,
            "tied_with_best": row.tied_with_best,
        }
        return document if row.reason is None else document | {"reason": row.reason}


def rank(
    records: Iterable[TrialRecord],
    metric: str = "macro_f1",
    confidence: float = 0.95,
    seed: int = 0,
    *,
    study: str = "",
    replicates: int = 2000,
) -> Ranking:
    """Rank trials by a score that is computed here from what they stored.

    COMPLETE and PRUNED trials are ranked alike; running and waiting ones follow with what they have so
    far; diverged and failed ones, and those whose predictions are gone, come last with a reason and no
    score. Trials that another one replaces are left out. Trials on the same images are compared in pairs.

    Args:
        records: From `read_study`, or from a study that overlays Optuna's states.
        metric: A name in `analysis.metrics.SCORES`.
        confidence: Of each interval, and of the set of ties as a whole (see `analysis.ties`).
        seed: Of the bootstrap.
        study: The study's name, for the heading.
        replicates: Bootstrap draws.

    Raises:
        UsageError: If the metric is unknown or the confidence is not in (0, 1).
    """
    if metric not in SCORES:
        raise unknown_name("metric", metric, SCORES)
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie between 0 and 1, got {confidence}")
    scored: list[_Scored] = []
    others: list[RankedTrial] = []
    for record in records:
        if not record.info.replaced:
            found = _score(record, metric)
            scored.append(found) if isinstance(found, _Scored) else others.append(found)
    rows = others + _with_intervals(scored, metric, confidence, seed, replicates)
    rows.sort(key=_place)
    return Ranking(
        study, metric, confidence, tuple(replace(row, rank=place) for place, row in enumerate(rows, 1))
    )


@dataclass(frozen=True)
class _Scored:
    """A row with the predicted classes that its score came from (not the logits: they are many)."""

    row: RankedTrial
    targets: NDArray[np.int64]
    classes: NDArray[np.int32]
    num_classes: int
    images: str

    @classmethod
    def of(cls, row: RankedTrial, stored: Predictions) -> _Scored:
        digest = hashlib.sha256(stored.indices.tobytes() + stored.targets.tobytes())
        images = f"{stored.num_classes} {digest.hexdigest()}"
        return cls(row, stored.targets, stored.classes.astype(np.int32), stored.num_classes, images)


def _score(record: TrialRecord, metric: str) -> _Scored | RankedTrial:
    row = RankedTrial(
        number=record.number,
        state=record.state,
        epochs=record.epochs,
        cost=record.cost,
        record=str(record.folder.path),
        reason=record.diverged or record.info.reason,
    )
    if record.diverged or record.state is TrialState.FAIL:
        return replace(row, reason=row.reason or "failed; no reason was recorded")
    counts = record.summary.train_class_counts if record.summary else None
    try:
        stored = record.folder.predictions()
        if stored is None:
            return replace(row, reason=row.reason or "no predictions stored") if row.state.ended else row
        metrics = Metrics.from_confusion(stored.confusion(), counts)
    except ValueError as error:  # one damaged record must not hide the others
        return replace(row, reason=str(error))
    return _Scored.of(replace(row, score=getattr(metrics, metric), tail_f1=metrics.tail_f1), stored)


def _with_intervals(
    scored: Sequence[_Scored], metric: str, confidence: float, seed: int, replicates: int
) -> list[RankedTrial]:
    """Return the rows with interval and ties; trials on other images are drawn apart, with another seed."""
    together: dict[str, list[_Scored]] = defaultdict(list)
    for one in scored:
        together[one.images].append(one)
    rows: list[RankedTrial] = []
    draws: list[NDArray[np.float64]] = []
    for place, group in enumerate(together.values()):
        targets, num_classes = group[0].targets, group[0].num_classes
        classes = np.stack([one.classes for one in group])
        drawn = smoothed_replicates(
            targets, classes, num_classes, score=SCORES[metric], replicates=replicates, seed=seed + place
        )
        untrusted = untrusted_classes(targets, num_classes)
        for one, own in zip(group, drawn, strict=True):
            assert one.row.score is not None
            interval = percentile_interval(one.row.score, own, confidence, untrusted)
            rows.append(replace(one.row, interval=interval))
            draws.append(own)
    ranked = [place for place, row in enumerate(rows) if _is_ranked(row)]
    if ranked:
        values = np.array([rows[place].score or 0.0 for place in ranked])
        tied = tied_with_best(values, np.stack([draws[place] for place in ranked]), confidence)
        for place, is_tied in zip(ranked, tied, strict=True):
            rows[place] = replace(rows[place], tied_with_best=bool(is_tied))
    return rows


def _is_ranked(row: RankedTrial) -> bool:
    return row.score is not None and row.state.ended


def _place(row: RankedTrial) -> tuple[int, float, int]:
    """Return the sort key: ranked by score; running, then waiting; without a score; failed."""
    if _is_ranked(row):
        return 0, -(row.score or 0.0), row.number
    order = {TrialState.RUNNING: 1, TrialState.WAITING: 2, TrialState.FAIL: 4}
    return order.get(row.state, 3), 0.0, row.number

"""Whose weights stay: the best trials' and the unfinished ones'. Scores and predictions always do."""

from __future__ import annotations

from pathlib import Path

from tailtune.study_spec import RetentionSpec

WEIGHTS = ("checkpoint.pt", "best.safetensors")


class Retention:
    """Deletes the weights of finished trials that are not, or no longer, among the best.

    Args:
        trials: Folder of the records.
        rule: How many stay, and how many bytes.
    """

    def __init__(self, trials: Path, rule: RetentionSpec) -> None:
        self._trials, self._rule = trials, rule
        self._kept: dict[int, float] = {}

    @property
    def weights_from(self) -> float:
        """Macro-F1 in [0, 1] that a trial must reach for its weights to stay; 0 where any may.

        It only rises, but under a cap on bytes, which may make room for a worse trial that is smaller.
        """
        if self._rule.max_bytes is not None or len(self._kept) < self._rule.keep_best:
            return 0.0
        return min(self._kept.values())

    def ended(self, number: int, value: float | None, *, complete: bool) -> list[int]:
        """Take the end of a trial; return the numbers of the trials whose weights went.

        Args:
            number: The trial.
            value: Of its chosen epoch; None where it has none.
            complete: Whether it trained to its own end: what ASHA stopped keeps nothing.
        """
        gone = []
        if complete and value is not None:
            self._kept[number] = value
        else:
            gone.append(number)
        ranked = sorted(self._kept, key=lambda kept: (-self._kept[kept], kept))
        stay, taken = 0, 0
        for kept in ranked:
            size = _bytes(self._trials / str(kept))
            if stay < self._rule.keep_best and self._fits(size, taken):
                stay, taken = stay + 1, taken + size
            else:
                gone.append(kept)
                del self._kept[kept]
        for lost in gone:
            for name in WEIGHTS:
                (self._trials / str(lost) / name).unlink(missing_ok=True)
        return gone

    def _fits(self, size: int, taken: int) -> bool:
        """Return whether weights find room; the best trial's do. Of no bytes: they had found none before."""
        cap = self._rule.max_bytes
        return cap is None or (size > 0 and (taken == 0 or taken + size <= cap))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for name in WEIGHTS if (path := folder / name).exists())

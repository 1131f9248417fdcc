"""A search as it happens: a live picture on a terminal, plain lines in a file or pipe, nothing for machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from analysis.records import TrialState
from tailtune.exchange import Observer
from trainable.config import TrialConfig

if TYPE_CHECKING:
    from rich.console import Group

    from tailtune.search import Outcome
    from trainable.history import EpochReport

ENDED = ("COMPLETE", "PRUNED", "FAIL")


class Watcher(Observer):
    """Knows how far a search is, and says nothing. A context manager around the whole run."""

    def __init__(self) -> None:
        self.study, self.asked, self.epochs = "", 0, 0
        self.running: dict[int, tuple[int, float | None]] = {}
        self.counts = dict.fromkeys(ENDED, 0)
        self.best: tuple[float, int] | None = None
        self.outcome: Outcome | None = None
        self.started = time.monotonic()
        self._before, self._decoded = 0, 0

    def decoding(self, done: int, total: int) -> None:
        """Take note that `done` of `total` images are decoded."""

    def noted(self, notes: Sequence[str]) -> None:
        """Say what was decided about the split: the classes that are too small for it, by name."""

    def begin(self, status: Mapping[str, Any], epochs: int) -> None:
        """Take the plan, and what earlier runs of the study have done.

        Args:
            status: The study's, as `status --json`.
            epochs: Of a whole trial.
        """
        self.study, self.asked, self.epochs = status["study"], status["asked_trials"], epochs
        self.counts = {state: status["trials"].get(state, 0) for state in ENDED}
        best = status["best"]
        self.best = (best["macro_f1"], best["number"]) if best else None
        self._before, self.started = self.ended, time.monotonic()

    def trial_started(self, number: int, config: TrialConfig, *, resumed: bool) -> None:
        """Remember that trial `number` runs."""
        self.running[number] = (0, None)

    def epoch_ended(self, number: int, epoch: int, value: float) -> None:
        """Remember where trial `number` is."""
        self.running[number] = (epoch, value)

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Count trial `number`."""
        self.running.pop(number, None)
        self.counts[state.name] += 1
        complete = value if state is TrialState.COMPLETE else None
        if complete is not None and (self.best is None or complete > self.best[0]):
            self.best = (complete, number)

    @property
    def ended(self) -> int:
        """Trials that have ended."""
        return sum(self.counts.values())

    @property
    def ended_here(self) -> int:
        """Of these, the trials that have ended since `begin`."""
        return self.ended - self._before

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self.started

    @property
    def remaining(self) -> float | None:
        """Seconds to go at the pace so far, or None before the first trial has ended."""
        here = self.ended_here
        return self.elapsed / here * max(0, self.asked - self.ended) if here else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Lines(Watcher):
    """One plain line for each trial that ends, and for each tenth of the images that are decoded."""

    def decoding(self, done: int, total: int) -> None:
        """Print a line now and then."""
        tenth = max(1, total // 10)
        if done // tenth > self._decoded // tenth or done == total:
            print(f"decoded {done} of {total} images", flush=True)
        self._decoded = done

    def noted(self, notes: Sequence[str]) -> None:
        """Print a line for each."""
        for note in notes:
            print(f"note: {note}", flush=True)

    def trial_ended(self, number: int, state: TrialState, value: float | None, reason: str | None) -> None:
        """Print the trial's line."""
        epoch, newest = self.running.get(number, (0, None))
        super().trial_ended(number, state, value, reason)
        reached = newest if value is None else value
        score = "–" if reached is None else f"{reached:.3f}"
        best = "–" if self.best is None else f"{self.best[0]:.3f} (trial {self.best[1]})"
        why = f"  {reason}" if reason else ""
        print(
            f"[{self.ended}/{self.asked}] trial {number} {state.name} epoch {epoch} macro-F1 {score}  "
            f"best {best}{why}",
            flush=True,
        )


class Live(Watcher):
    """A picture that is drawn anew twice a second: the running trials, the best, the counts, the time."""

    def __init__(self) -> None:
        super().__init__()
        self._images: tuple[int, int] | None = None
        from rich.console import Console
        from rich.live import Live as RichLive

        self._live = RichLive(
            console=Console(highlight=False), get_renderable=self.picture, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def decoding(self, done: int, total: int) -> None:
        """Show how many images are decoded."""
        self._images = done, total

    def noted(self, notes: Sequence[str]) -> None:
        """Print a line for each above the picture."""
        for note in notes:
            self._live.console.print(f"note: {note}", markup=False)

    def picture(self) -> Group:
        """Return what the terminal shows now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from tailtune.tables import clock

        if not self.asked:
            if self._images is None or self._images[0] == self._images[1]:
                return Group(Text("reading the data"))
            done, total = self._images
            return Group(
                Text(f"decoded {done} of {total} images"), ProgressBar(total=total, completed=done, width=60)
            )
        trials = Table(box=None, pad_edge=False)
        for heading in ("trial", "epoch", "", "macro-F1"):
            trials.add_column(heading, justify="right")
        for number, (epoch, value) in sorted(self.running.copy().items()):
            bar = ProgressBar(total=self.epochs, completed=epoch, width=20)
            trials.add_row(str(number), f"{epoch}/{self.epochs}", bar, "–" if value is None else f"{value:.3f}")
        counts = ", ".join(f"{count} {state.lower()}" for state, count in self.counts.items())
        best = "no result yet" if self.best is None else f"best {self.best[0]:.3f} (trial {self.best[1]})"
        time_left = "" if self.remaining is None else f", about {clock(self.remaining)} to go"
        head = Text(f"{self.study}: {self.ended}/{self.asked} trials ({counts}); {best}")
        return Group(head, trials, Text(f"{clock(self.elapsed)} elapsed{time_left}; Ctrl-C stops, resumable"))


def watcher(*, silent: bool = False) -> Watcher:
    """Return the watcher that fits where stdout goes."""
    if silent:
        return Watcher()
    return Live() if sys.stdout.isatty() else Lines()


def epoch_line(report: EpochReport) -> None:
    """Print one line for an epoch of `train`."""
    if report.row is None:
        print(f"epoch {report.epoch}  diverged: {report.diverged}", flush=True)
        return
    losses = f"train loss {report.row.train_loss:.4f}  val loss {report.row.val_loss:.4f}"
    seconds = f"{report.row.seconds:.1f} s"
    print(f"epoch {report.epoch}  {losses}  macro-F1 {report.macro_f1:.3f}  {seconds}", flush=True)

"""Why a search ends before its last trial: a stop that was asked for, the time budget, Ctrl-C, or a fault."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

Reason = Literal["interrupted", "stop requested", "time budget", "fault", "ray died"]
STOP_FILE = "stop-requested"


class Brake:
    """Asked between any two events of a search whether to go on.

    Args:
        folder: The study's; `tailtune stop` writes `stop-requested` into it.
        time_budget_seconds: From now on; None has no end.
        beat: Called each time, for the heartbeat.
    """

    def __init__(
        self,
        folder: Path,
        time_budget_seconds: float | None = None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop_file = folder / STOP_FILE
        self._stop_file.unlink(missing_ok=True)
        self._deadline = None if time_budget_seconds is None else time.monotonic() + time_budget_seconds
        self._beat = beat
        self.reason: Reason | None = None
        self.fault: Exception | None = None
        self._interrupted = False
        self._handler: Callable[[int, FrameType | None], None] | None = None
        self.last_error: Exception | None = None
        """What Ray or Tune last ended with; not a reason to stop for good."""

    def pull(self, reason: Reason) -> None:
        """Stop the search; the first reason stays."""
        self.reason = self.reason or reason

    def fail(self, fault: Exception) -> None:
        """Stop the search because the driver itself cannot go on; the first fault stays."""
        self.fault = self.fault or fault
        self.pull("fault")

    def pulled(self) -> bool:
        """Return whether the search is to stop now."""
        try:
            self._beat()
        except OSError as fault:  # a full disk
            self.fail(fault)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self.pull("time budget")
        if self._stop_file.exists():
            self.pull("stop requested")
        return self.reason is not None

    def listen(self) -> None:
        """Take the signals, again where another has taken them: Ray's start replaces the handler of SIGTERM."""
        if self._handler is not None:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._handler)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Let the first Ctrl-C (or SIGTERM) pull the brake, and the second end everything at once.

        Whatever has pulled it before: who asks twice is not kept waiting for an orderly end.

        Only the main thread can have signals; elsewhere nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(signum: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            if self.reason == "ray died":  # which would be started again
                self.reason = None
            self.pull("interrupted")

        former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._handler = handler
        self.listen()
        try:
            yield
        finally:
            self._handler = None
            for number, was in former.items():
                signal.signal(number, was)

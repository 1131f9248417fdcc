"""One driver a study: a file lock that the kernel releases with its holder, and a heartbeat for other hosts."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from analysis.errors import TailtuneError

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
"""A heartbeat older than this, from another host, is taken for dead."""


class StudyLock:
    """The right to drive the study in `folder`; a context manager.

    `flock` on `folder/lock` decides on one host and is free the moment its holder dies, however it dies.
    Between hosts it may not reach (some network file systems do not pass it on), so the heartbeat is asked too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._beaten = 0.0

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            TailtuneError: If another driver has it, or the folder cannot be written.
        """
        path = self._folder / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise TailtuneError(f"cannot write {path}: {error.strerror}", "make the folder writable") from None
        if not _flock(fd, fcntl.LOCK_EX, patience_seconds=1.0) or not _is_at(path, fd):
            # Patience, for `driver_of` holds it for a moment; a study that could not begin is taken away.
            os.close(fd)
            raise _refusal(self._folder, _read(path))
        beat = _read(self._folder / "heartbeat")
        if beat.get("host") not in (None, socket.gethostname()) and _fresh(beat):
            os.close(fd)
            raise _refusal(self._folder, beat)
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, _identity(), 0)
        self.beat()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            (self._folder / "heartbeat").unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None

    def beat(self) -> None:
        """Write the heartbeat, at most every `HEARTBEAT_SECONDS`."""
        now = time.monotonic()
        if self._beaten and now - self._beaten < HEARTBEAT_SECONDS:
            return
        self._beaten = now
        temporary = self._folder / f".heartbeat-{os.getpid()}"
        temporary.write_bytes(_identity())
        temporary.replace(self._folder / "heartbeat")


def driver_of(folder: Path) -> dict[str, object] | None:
    """Return who drives the study in `folder` right now (`pid`, `host`, `time`), or None where nobody does."""
    beat = _read(folder / "heartbeat")
    if beat.get("host") not in (None, socket.gethostname()):
        return beat if _fresh(beat) else None
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    free = _flock(fd, fcntl.LOCK_SH)
    os.close(fd)
    return None if free else _read(folder / "lock")


def _flock(fd: int, kind: int, patience_seconds: float = 0.0) -> bool:
    """Return whether the lock could be had within `patience_seconds`."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _is_at(path: Path, fd: int) -> bool:
    """Return whether the open file `fd` is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _identity() -> bytes:
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}).encode()


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _fresh(beat: dict[str, object]) -> bool:
    written = beat.get("time")
    return isinstance(written, int | float) and time.time() - written < STALE_SECONDS


def _refusal(folder: Path, holder: dict[str, object]) -> TailtuneError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    return TailtuneError(
        f"a study has one driver at a time, and {who} is driving '{folder.name}'",
        f"watch it with `tailtune status {folder.name}`, or end it with `tailtune stop {folder.name}`",
    )

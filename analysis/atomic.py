"""Files that are there whole or not at all, and that only the newest attempt at a trial may write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from analysis.errors import TailtuneError

_LARGE = 2**20
"""Bytes from which a file's way to the disk takes longer than asking for room."""
LEFTOVER_SECONDS = 600
"""A temporary file that was last written this long ago has no writer any more."""


class Superseded(TailtuneError):
    """Another attempt has claimed the record; this one must stop and may write nothing more."""


class CannotWrite(TailtuneError):
    """The disk is full or the folder read-only: no fault of the trial that happens to meet it."""


@dataclass(frozen=True)
class Claim:
    """An attempt's right to write into a folder, kept as the attempt's id in the folder's file `attempt`.

    Attributes:
        folder: The record.
        attempt: The id, not empty.
    """

    folder: Path
    attempt: str

    def take(self) -> None:
        """Make this the only attempt that may write, and clear away what killed writers left.

        Raises:
            TailtuneError: If the folder cannot be made or written.
        """
        assert self.attempt, "an attempt's id must not be empty"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "attempt").open("a+", encoding="utf-8") as file:
                _lock(file.fileno(), fcntl.LOCK_EX)
                file.seek(0)
                file.truncate()
                file.write(self.attempt)
                file.flush()
            self._tidy()
        except OSError as error:
            raise write_error(self.folder / "attempt", error) from None

    def _tidy(self) -> None:
        """Remove temporary files too old to be in the making (the driver may be writing one now)."""
        for leftover in (*self.folder.rglob(".*.tmp"), *self.folder.rglob(".tmp*")):  # ours, and safetensors'
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the claim from being taken by another while the block runs.

        Raises:
            Superseded: If another attempt has it, or nobody has.
        """
        try:
            file = (self.folder / "attempt").open("r", encoding="utf-8")
        except FileNotFoundError:
            raise Superseded(f"{self.folder} must be claimed before attempt '{self.attempt}' writes") from None
        with file:
            _lock(file.fileno(), fcntl.LOCK_SH)
            holder = file.read()
            if holder != self.attempt:
                raise Superseded(f"{self.folder} belongs to attempt '{holder}' now, not to '{self.attempt}'")
            yield


Content = bytes | Callable[[BinaryIO], object]
"""What a file is to hold, or what writes it into an open file."""


def write_atomic(path: Path, content: Content, *, claim: Claim | None = None, durable: bool = False) -> None:
    """Write `content` to `path`: whoever reads it at any moment finds the former content or all of the new.

    Args:
        path: The file; its folder is made where it is missing.
        content: All of it, or a function that writes it: what is large need not be copied into bytes first.
        claim: Must still be held at the moment of renaming; None asks nobody.
        durable: Also wait for the disk, so that it outlives a power failure. A kill needs no such thing.

    Raises:
        Superseded: If another attempt holds the claim.
        CannotWrite: If the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                _reserve(file.fileno(), path)
                content(file)
                file.truncate()
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with claim.held() if claim else contextlib.nullcontext():
            temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _reserve(descriptor: int, former: Path) -> None:
    """Give an open file the room of the large file that it will replace.

    Where blocks were still to be found, ext4 pushes the whole file to the disk as it replaces another; a
    checkpoint that lives for an epoch never has to go there.

    Raises:
        OSError: If the disk has too little room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with contextlib.suppress(FileNotFoundError):
        size = former.stat().st_size
        if size >= _LARGE:
            os.posix_fallocate(descriptor, 0, size)


def write_error(path: Path, error: OSError) -> CannotWrite:
    """Return the error for a file that cannot be written."""
    reason = (error.strerror or str(error)).lower()
    return CannotWrite(f"cannot write {path}: {reason}", "free space or choose a --home that can be written")


def _lock(descriptor: int, kind: int) -> None:
    """Lock the open file until it is closed; a network disk without locks leaves a gap of microseconds."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, kind)

"""How a worker process deals with memory that it frees: kept while a trial runs, given back when it ends."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST = 2**31 - 1
"""Of an `int`, which both thresholds are."""


def keep_freed_memory() -> bool:
    """Have the C library keep what this process frees; return whether it does (glibc only).

    By default every tensor above some MiB is mapped anew and given back at once, and each of its pages costs
    a fault when it is first written: in each step of a training on a CPU (`benchmarks/kept_memory.py`).
    For processes of our own only: it holds for everything in them.
    """
    libc = _glibc()
    if libc is None:
        return False
    kept = [libc.mallopt(threshold, _MOST) == 1 for threshold in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return all(kept)


def return_freed_memory() -> None:
    """Give what this process has freed and kept back to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


__all__ = ["keep_freed_memory", "return_freed_memory"]

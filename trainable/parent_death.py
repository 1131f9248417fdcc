"""A worker process that does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere nothing happens).

    A Ray worker's parent is its raylet, and a local raylet dies with the driver: so no survivor of a killed
    driver trains on beside the next one. Call it once in a worker, never in a process that a person started.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died while this was asked for
        os.kill(os.getpid(), signal.SIGKILL)

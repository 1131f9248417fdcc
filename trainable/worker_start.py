"""What a worker process does first: import what a trial needs, without collecting garbage meanwhile."""

from __future__ import annotations

import contextlib
import gc
import importlib

TRAINABLE = "trainable.tune_adapter"


def load() -> None:
    """Import the trainable; a sixth of the time goes into looking for garbage where there is none.

    A failure is left to the first trial, which will say it better.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        with contextlib.suppress(Exception):
            importlib.import_module(TRAINABLE)
    finally:
        if collects:
            gc.enable()


__all__ = ["TRAINABLE", "load"]

"""A process of its own for each side of a comparison, so that none finds warm what another has warmed."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

Epochs = Callable[[int], float]
"""Trains the epoch of that number, and returns what is measured of it."""


def serve(calls: Connection, made: Callable[[], Epochs]) -> None:
    """Say when all is made, then answer each number of an epoch, until None comes."""
    epoch = made()
    calls.send("ready")
    while (number := calls.recv()) is not None:
        calls.send(epoch(number))


@contextmanager
def in_a_process(made: Callable[[], Epochs]) -> Iterator[Epochs]:
    """Have what `made` makes in a process of its own, forked from one that only imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainable.state"])
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, made))
    process.start()
    there.close()  # else a child that dies would be waited for
    here.recv()

    def epoch(number: int) -> float:
        here.send(number)
        return float(here.recv())

    try:
        yield epoch
    finally:
        with contextlib.suppress(OSError):
            here.send(None)
        process.join()

"""Contiguous against channels-last on a GPU: a trial's first epoch, and those after it.

    python -m benchmarks.layout_on_gpu [--rounds 5]

Both layouts train as `trainable.loop.fit` does, bf16, in turn, each in a process of its own that has trained
another network before: one that turns its maps round itself would else find its kernels compiled. Building the
trial and its first epoch (4,096 images) pay for what is compiled; the rates of the later epochs are divided.
Channels-last is even when its quicker later epochs have made up for the first.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from itertools import product

from benchmarks.epoch_efficiency import SIZES
from benchmarks.precision_auto import ON_GPU, Timed, timed_apart
from benchmarks.table import Row, run, shown
from trainable.precision import Precision

NETWORKS = ("mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "mobilenetv2_100", "resnext50_32x4d")
LAYOUTS = [Precision("bf16", channels_last=last) for last in (False, True)]


def rows(rounds: int) -> Iterator[Row]:
    """Yield two rows a network and size."""
    if not ON_GPU:
        yield Row("-", "contiguous against channels-last", "stated", "no GPU here", False)
        return
    for size, network in product(SIZES, NETWORKS):
        contiguous, last = timed_apart(network, size, LAYOUTS, rounds).values()
        what = f"{network}, {size[0]}x{size[1]}"
        seconds = f"{contiguous.first:.2f} s, {last.first:.2f} s"
        yield Row("-", f"first epoch, contiguous and channels-last: {what}", "stated", seconds, True)
        shares = [one / other for one, other in zip(contiguous.rates, last.rates, strict=True)]
        label = f"contiguous over channels-last later, even at {even(contiguous, last)}: {what}"
        yield Row("-", label, "stated", shown(shares), True)


def even(contiguous: Timed, last: Timed) -> str:
    """Return from how many images on channels-last is the faster."""
    behind = last.first - contiguous.first
    gained = 1.0 / statistics.median(contiguous.rates) - 1.0 / statistics.median(last.rates)
    if behind <= 0.0:
        return "once" if gained >= 0.0 else "no number"
    return f"{behind / gained / 1e3:.0f} thousand images" if gained > 0.0 else "no number"


if __name__ == "__main__":
    run(rows, __doc__)

"""Channels-last against contiguous on a GPU: a trial's first epoch, and those after it.

    python -m benchmarks.layout_on_gpu [--rounds 5]

Both layouts train as `trainable.loop.fit` does, bf16, in turn. The first epoch (eight batches) pays for what
cuDNN compiles when it first sees a shape; of the later ones the rates are divided. From so many images on the
faster of the later ones has made up for its first.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from unittest.mock import patch

import torch

from benchmarks.epoch_efficiency import BATCH, SIZES, epoch_of, random_images, trial_config
from benchmarks.table import Row, run, shown
from trainable import state
from trainable.precision import Precision
from trainable.state import TrialState

NETWORKS = ("mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "mobilenetv2_100", "resnext50_32x4d")
IMAGES = 8 * BATCH


def rows(rounds: int) -> Iterator[Row]:
    """Yield two rows a network and size."""
    if not torch.cuda.is_available():
        yield Row("-", "channels-last against contiguous", "stated", "no GPU here", False)
        return
    layouts = [Precision("bf16", channels_last=last) for last in (True, False)]
    for one in layouts:  # what a process does once
        Epochs(one, "resnet10t", SIZES[0], rounds)
    for size in SIZES:
        for network in NETWORKS:
            last, contiguous = (Epochs(one, network, size, rounds) for one in layouts)
            rates = [[each(number + 1) for each in (last, contiguous)] for number in range(rounds)]
            what = f"{network}, {size[0]}x{size[1]}"
            seconds = f"{last.first:.2f} s, {contiguous.first:.2f} s"
            yield Row("-", f"first epoch, channels-last and contiguous: {what}", "stated", seconds, True)
            found = [two / one for one, two in rates]
            one, two = (statistics.median(side) for side in zip(*rates, strict=True))
            slower = 1.0 / two - 1.0 / one
            even = (last.first - contiguous.first) / slower / 1e3 if slower > 0.0 else float("inf")
            label = (
                f"contiguous ({two:.0f} images/s) over channels-last later, even at {even:.0f}k images: {what}"
            )
            yield Row("-", label, "stated", shown(found), True)


class Epochs:
    """Trains an epoch in a layout when called, and returns images a second.

    Attributes:
        first: Seconds of the first epoch, which is behind it.
    """

    def __init__(self, layout: Precision, network: str, size: tuple[int, int], rounds: int) -> None:
        dataset, split = random_images(IMAGES, size)
        # No configuration can ask for a layout.
        with patch.object(state, "resolve_precision", lambda *_: layout):
            trial = TrialState(trial_config(network, rounds + 1), dataset, split, torch.device("cuda"))
        self._epoch = epoch_of(trial)
        self.first = IMAGES / self._epoch(0)

    def __call__(self, number: int) -> float:
        """Train epoch `number`."""
        return self._epoch(number)


if __name__ == "__main__":
    run(rows, __doc__)

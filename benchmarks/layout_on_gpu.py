"""Contiguous against channels-last on a GPU: a trial's first epoch, and those after it.

    python -m benchmarks.layout_on_gpu [--rounds 5]

Both layouts train as `trainable.loop.fit` does, bf16, in turn, the contiguous one first: were it second, a
network that turns its maps round itself would find its kernels compiled. Building the trial and its first epoch
(eight batches) pay for what is compiled; the rates of the later epochs are divided. Channels-last is even when
its quicker later epochs have made up for the first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.epoch_efficiency import BATCH, SIZES, epoch_of, random_images, trial_config
from benchmarks.table import Row, run, shown
from trainable.precision import Precision
from trainable.state import TrialState

NETWORKS = ("mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "mobilenetv2_100", "resnext50_32x4d")
IMAGES = 8 * BATCH


class Epochs:
    """Trains an epoch in a layout when called, and returns images a second.

    Attributes:
        first: Seconds for building the trial and its first epoch, which are behind it.
    """

    def __init__(self, layout: Precision, network: str, size: tuple[int, int], rounds: int) -> None:
        dataset, split = random_images(IMAGES, size)
        start = time.perf_counter()
        config, device = trial_config(network, rounds + 1), torch.device("cuda")
        trial = TrialState(config, dataset, split, device, precision=layout)
        self._epoch = epoch_of(trial)
        self._epoch(0)
        self.first = time.perf_counter() - start

    def __call__(self, number: int) -> float:
        """Train epoch `number`."""
        return self._epoch(number)


def rows(rounds: int) -> Iterator[Row]:
    """Yield two rows a network and size."""
    if not torch.cuda.is_available():
        yield Row("-", "contiguous against channels-last", "stated", "no GPU here", False)
        return
    layouts = [Precision("bf16", channels_last=last) for last in (False, True)]
    for layout in layouts:  # what a process does once
        Epochs(layout, "resnet10t", SIZES[0], rounds)
    for size in SIZES:
        for network in NETWORKS:
            pair = [Epochs(layout, network, size, rounds) for layout in layouts]
            rates = [[epochs(number + 1) for epochs in pair] for number in range(rounds)]
            what = f"{network}, {size[0]}x{size[1]}"
            seconds = ", ".join(f"{epochs.first:.2f} s" for epochs in pair)
            yield Row("-", f"first epoch, contiguous and channels-last: {what}", "stated", seconds, True)
            shares = [contiguous / last for contiguous, last in rates]
            label = f"contiguous over channels-last later, even at {even(pair, rates)}: {what}"
            yield Row("-", label, "stated", shown(shares), True)


def even(pair: list[Epochs], rates: list[list[float]]) -> str:
    """Return from how many images on channels-last is the faster."""
    contiguous, last = (statistics.median(side) for side in zip(*rates, strict=True))
    behind, gained = pair[1].first - pair[0].first, 1.0 / contiguous - 1.0 / last
    if behind <= 0.0:
        return "once" if gained >= 0.0 else "no number"
    return f"{behind / gained / 1e3:.0f} thousand images" if gained > 0.0 else "no number"


if __name__ == "__main__":
    run(rows, __doc__)

"""P3: what `precision: auto` costs against the best fixed choice, its own timing included.

    python -m benchmarks.precision_auto [--rounds 5]

Every fixed choice (fp32 and bf16, channels-last and contiguous) trains the same steps in turn. The loss is
reckoned for a trial of 5 epochs of 2,048 images, the first of its network, shape and machine: (timing + 5
epochs as chosen) / (5 epochs of the best fixed choice). Later trials read the choice from the cache.

On a GPU, where kernels may be loaded or compiled at first, every choice has a process of its own (which has
trained another network before), and building the trial and its first epoch are reckoned in as measured: of
the first trial of this network there, and of a second one, as a worker that goes on finds it. So short a
trial is nearly nothing else, so one with epochs of 100,000 images is reckoned too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch

from benchmarks.epoch_efficiency import CLASSES, NETWORKS, SIZES, epoch_of, random_images, trial_config
from benchmarks.processes import Epochs, in_a_process
from benchmarks.table import Row, run, shown
from trainable.backbones import build_backbone
from trainable.cpu_kernels import quicken
from trainable.data.dataset import ImageDataset, Split
from trainable.precision import Precision, gpu_computes_bf16
from trainable.precision_choice import resolve_precision
from trainable.state import TrialState

EPOCHS, ON_GPU = 5, torch.cuda.is_available()
DEVICE, TIMED_IMAGES = torch.device("cuda" if ON_GPU else "cpu"), 4096 if ON_GPU else 256
SHORT_EPOCH, LONG_EPOCH = 2_048, 100_000


@dataclass(frozen=True)
class Timed:
    """How one choice trains.

    Attributes:
        rates: Images a second after the first epoch, for each round.
        first: Seconds to build the trial and train `TIMED_IMAGES`; 0 on a CPU, where nothing is compiled.
        again: The same for another trial of this network and size in the same process.
    """

    rates: tuple[float, ...]
    first: float = 0.0
    again: float = 0.0

    def seconds(self, images: int, *, again: bool = False) -> list[float]:
        """Return what `EPOCHS` epochs of `images` images take, for each round."""
        begun = self.again if again else self.first
        left = EPOCHS * images - (TIMED_IMAGES if begun else 0)
        return [begun + left / rate for rate in self.rates]


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a network, size and length of an epoch."""
    names = ("fp32", "bf16") if not ON_GPU or gpu_computes_bf16() else ("fp32", "fp16")
    fixed = [Precision(name, channels_last=last) for name in names for last in (True, False)]
    for network, size in product(NETWORKS, SIZES):
        where = f"{network}, {size[0]}x{size[1]}"
        if not ON_GPU:
            yield reckoned(network, size, SHORT_EPOCH, timed_here(network, size, fixed, rounds), where)
            continue
        found = timed_apart(network, size, fixed, rounds)
        each = ", ".join(f"{named(p)} {found[p].first:.2f} and again {found[p].again:.2f} s" for p in fixed)
        what = f"building and first epoch of {TIMED_IMAGES:,} images: {where}"
        yield Row("P3", what, "stated", each, True)
        each = ", ".join(f"{named(p)} {statistics.median(found[p].rates):.0f}" for p in fixed)
        yield Row("P3", f"images/s later: {where}", "stated", each, True)
        for images, again in product((SHORT_EPOCH, LONG_EPOCH), (False, True)):
            what = f"{where}, epochs of {images:,}{', again' if again else ''}"
            yield reckoned(network, size, images, found, what, again=again)


def reckoned(
    network: str,
    size: tuple[int, int],
    images: int,
    found: dict[Precision, Timed],
    where: str,
    *,
    again: bool = False,
) -> Row:
    """Return the row of a trial with epochs of `images` images; `again`: of another one in the same process."""
    chosen, timing = chosen_by(network, size, images)
    seconds = {precision: timed.seconds(images, again=again) for precision, timed in found.items()}
    best = min(found, key=lambda p: statistics.median(seconds[p]))
    losses = [(timing + own) / least for own, least in zip(seconds[chosen], seconds[best], strict=True)]
    what = f"auto ({named(chosen)}) over the best fixed ({named(best)}): {where}, timing {timing:.2f} s"
    return Row("P3", what, "at most 1.05", shown(losses, 3), statistics.median(losses) <= 1.05)


def timed_here(
    network: str, size: tuple[int, int], fixed: list[Precision], rounds: int
) -> dict[Precision, Timed]:
    """Train with each of `fixed` in turn, all in this process."""
    data = random_images(TIMED_IMAGES, size)
    epochs = {precision: choice(precision, network, data, rounds) for precision in fixed}
    for epoch in epochs.values():
        epoch(0)
    rates = [{precision: epochs[precision](number + 1) for precision in fixed} for number in range(rounds)]
    return {precision: Timed(tuple(each[precision] for each in rates)) for precision in fixed}


def timed_apart(
    network: str, size: tuple[int, int], fixed: list[Precision], rounds: int
) -> dict[Precision, Timed]:
    """Train with each of `fixed` in turn, each in a process of its own on the GPU."""
    with ExitStack() as stack:
        epochs = {
            precision: stack.enter_context(in_a_process(partial(warmed, precision, network, size, rounds)))
            for precision in fixed
        }
        first, again = ({p: epochs[p](0) for p in fixed} for _ in range(2))
        rates = [{precision: epochs[precision](number + 1) for precision in fixed} for number in range(rounds)]
    return {p: Timed(tuple(each[p] for each in rates), first[p], again[p]) for p in fixed}


def choice(precision: Precision, network: str, data: tuple[ImageDataset, Split], rounds: int) -> Epochs:
    """Return what trains an epoch of `data` and returns images a second."""
    return epoch_of(TrialState(trial_config(network, rounds + 1), *data, DEVICE, precision=precision))


def warmed(precision: Precision, network: str, size: tuple[int, int], rounds: int) -> Epochs:
    """Do what a process does once on a GPU, then return `choice`; epoch 0 builds it anew and is in seconds."""
    before = "resnet10t" if network != "resnet10t" else "resnet14t"
    choice(precision, before, random_images(TIMED_IMAGES, SIZES[0]), rounds)(0)
    data = random_images(TIMED_IMAGES, size)
    later: Epochs | None = None

    def epoch(number: int) -> float:
        nonlocal later
        if later is not None and number > 0:
            return later(number)
        later, start = None, time.perf_counter()
        later = choice(precision, network, data, rounds)
        later(number)
        return time.perf_counter() - start

    return epoch


def chosen_by(network: str, size: tuple[int, int], images: int) -> tuple[Precision, float]:
    """Return what `auto` chooses for a trial on `images`, the first of its kind, and the seconds that takes."""
    config, channels = trial_config(network, EPOCHS), 3
    model = build_backbone(config.backbone, CLASSES, size, channels)
    if DEVICE.type == "cpu":
        quicken(model, config)
    start = time.perf_counter()
    chosen = resolve_precision(config, model, size, channels, images, DEVICE, None)
    return chosen, time.perf_counter() - start


def named(precision: Precision) -> str:
    """Return the format and the layout in a word or two."""
    return precision.name if precision.channels_last else f"{precision.name} contiguous"


if __name__ == "__main__":
    run(rows, __doc__)

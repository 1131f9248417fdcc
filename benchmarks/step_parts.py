"""What narrow maps as dense products, pooling before ReLU and steps on turned weights are worth on a CPU.

    [OMP_NUM_THREADS=1] python -m benchmarks.step_parts [--rounds 15] [--layers | --optimizers]

A bare step of a network with one of them against the same without, batch 128, in turn, in the number format
that `precision: auto` chooses. `--layers` times single convolutions in bf16 instead, on which bounds in
`trainable/small_map_ways.py` rest: forward (with a stride of one), gradient of the images and of the kernel,
against the faster of torch's own and the product of unfolded images (the images' gradient: torch's own).
`--optimizers` times steps of the optimizers alone, on resnet10t's large kernels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from types import ModuleType
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from benchmarks.epoch_efficiency import BATCH, CLASSES, SIZES, random_images, trial_config
from benchmarks.kernels import NETWORKS_HEAD, in_turn, network_row, step_of, timed
from benchmarks.table import heading
from trainable import narrow_maps, small_map_ways
from trainable.backbones import build_backbone
from trainable.host_memory import keep_freed_memory
from trainable.optimizers import OPTIMIZERS, flat
from trainable.pool_first import PoolThenReLU
from trainable.quick_convolution import torchs_gradient
from trainable.small_maps import unfolded
from trainable.state import TrialState

NETWORKS = ("resnet10t", "resnet18", "resnet50", "efficientnet_b0", "convnext_atto")
BOUNDS: dict[str, tuple[ModuleType, tuple[str, ...]]] = {
    "narrow maps": (small_map_ways, ("WORTH", "STRIDED_WORTH", "FP32_WORTH")),
    "turned weights": (flat, ("FEWEST",)),
}
"""What is left out where its bounds are infinite."""
OUTPUTS = ((1, 1), (1, 2), (2, 2), (2, 3), (2, 5), (3, 3), (4, 5))
CHANNELS, BATCHES = ((128, 128, 1), (256, 256, 1), (512, 512, 1), (128, 256, 2), (256, 512, 2)), (32, 64, 128)
"""Channels of the input and of the output, and stride; images."""


def without(part: str, step: Callable[[], float]) -> Callable[[], float]:
    """Return `step` with what the bounds of `part` decide on left out."""
    module, bounds = BOUNDS[part]

    def stepped() -> float:
        with mock.patch.multiple(module, **dict.fromkeys(bounds, float("inf"))):
            return step()

    return stepped


def bound_row(part: str, network: str, size: tuple[int, int], rounds: int) -> str:
    """Return a row of the networks' table for what a bound leaves out."""
    trial = TrialState(trial_config(network, 1), *random_images(BATCH, size), torch.device("cpu"))
    step = step_of(trial, size)
    milliseconds, ratios = in_turn(step, without(part, step), rounds)
    return f"| {network} | {size[0]}x{size[1]} | {trial.precision.name} | {milliseconds:.0f} | {ratios} |"


def network_rows(rounds: int) -> Iterator[str]:
    """Yield a table for each of the three."""
    head = "| network | size | format | ms a step | over the step without: median (every round) |"
    for part in BOUNDS:
        yield f"\n{part}\n\n{head}\n|---|---|---|---:|---|"
        for network, size in product(NETWORKS, SIZES):
            yield bound_row(part, network, size, rounds)
    yield f"\npooling first\n\n{NETWORKS_HEAD}"
    for network in ("resnet10t", "resnet18"):
        yield network_row(network, (60, 80), rounds, "pool_first", PoolThenReLU)


def layer_rows(rounds: int) -> Iterator[str]:
    """Yield the layers' table."""
    yield "| images | channels, stride | output | forward, ms | gradient of the images | of the kernel | all |"
    yield "|---:|---|---|---|---|---|---:|"
    for size, channels, batch in product(OUTPUTS, CHANNELS, BATCHES):
        yield layer_row(batch, *channels, size, rounds)


def layer_row(
    batch: int, channels: int, out_channels: int, stride: int, size: tuple[int, int], rounds: int
) -> str:
    """Return a row of the layers' table: what it took before, and as products without the zeros."""
    shape = stride * size[0], stride * size[1]
    images, upstream = (
        torch.randn(batch, *dims).bfloat16().to(memory_format=torch.channels_last)
        for dims in ((channels, *shape), (out_channels, *size))
    )
    kernel = torch.randn(out_channels, channels, 3, 3).bfloat16().to(memory_format=torch.channels_last)
    columns, taps = unfolded(images, 3, stride), kernel.permute(0, 2, 3, 1).flatten(1).t()
    pixels = upstream.permute(0, 2, 3, 1).flatten(0, 2)
    own = partial(torchs_gradient, upstream, images, kernel, (stride, stride), (1, 1), 1)
    former: list[list[Callable[[], object]]] = [
        [
            lambda: functional.conv2d(images, kernel, None, stride, 1),
            lambda: unfolded(images, 3, stride) @ taps,
        ],
        [lambda: own(weight=False)],
        [lambda: own(weight=True), lambda: pixels.t() @ columns],
    ]
    narrow: list[Callable[[], object]] = [
        lambda: narrow_maps.convolved(images, kernel),
        lambda: narrow_maps.image_gradient(upstream, kernel),
        lambda: narrow_maps.weight_gradient(upstream, images),
    ]
    first, last = (0 if min(size) <= 2 else 2), 3
    if stride == 2:
        narrow[1], first, last = lambda: narrow_maps.strided_image_gradient(upstream, kernel, shape), 1, 2
    before = [min(timed(call, rounds) for call in calls) for calls in former[first:last]]
    after = [timed(call, rounds) for call in narrow[first:last]]
    cells = " | ".join(f"{old:.2f}, {new:.2f}" for old, new in zip(before, after, strict=True))
    layer = f"{channels} to {out_channels}{', 2' if stride == 2 else ''}"
    gained = f"{sum(before) / sum(after):.2f}x"
    filled = f"{' | ' * first}{cells}{' | ' * (3 - last)}"
    return f"| {batch} | {layer} | {size[0]}x{size[1]} | {filled} | {gained} |"


def optimizer_rows(rounds: int) -> Iterator[str]:
    """Yield a table of the fused optimizers' steps on turned weights, and on weights as they lie."""
    yield "| optimizer | ms a step | over the step without: median (every round) |\n|---|---:|---|"
    network = build_backbone(trial_config("resnet10t", 1).backbone, CLASSES, SIZES[1], 3)
    kernels = [
        nn.Parameter(weight.detach().to(memory_format=torch.channels_last))
        for weight in network.parameters()
        if weight.ndim == 4 and weight.numel() >= flat.FEWEST
    ]
    for weight in kernels:
        weight.grad = torch.randn_like(weight)
    for name in ("sgd", "adam", "adamw"):
        optimizer = OPTIMIZERS.parse(name).build([{"params": kernels, "weight_decay": 1e-4}])

        def step(optimizer: torch.optim.Optimizer = optimizer) -> float:
            start = time.perf_counter()
            optimizer.step()
            return time.perf_counter() - start

        milliseconds, ratios = in_turn(step, without("turned weights", step), rounds)
        yield f"| {name} | {milliseconds:.2f} | {ratios} |"


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--layers", action="store_true", help="time single convolutions")
    which.add_argument("--optimizers", action="store_true", help="time steps of optimizers")
    given = parser.parse_args()
    keep_freed_memory()
    rows, flag = network_rows, ""
    if given.layers:
        rows, flag = layer_rows, " --layers"
    elif given.optimizers:
        rows, flag = optimizer_rows, " --optimizers"
    command = f"python -m benchmarks.step_parts --rounds {given.rounds}{flag}"
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    for row in rows(given.rounds):
        print(row, flush=True)


if __name__ == "__main__":
    main()

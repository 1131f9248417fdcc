"""What the faster gradient of depthwise kernels is worth on a CPU: a bare step with it against one without.

    [OMP_NUM_THREADS=1] python -m benchmarks.depthwise_gradient [--rounds 5] [--narrowest 7]

Batch 128, channels-last, the number format that `precision: auto` chooses; two networks alike, in turn.
`--narrowest 5` gives the gradient to kernels of five columns as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal
from unittest import mock

import torch
from torch.nn import functional

from benchmarks.epoch_efficiency import BATCH, CLASSES, SIZES, random_images, trial_config
from benchmarks.table import heading, shown
from trainable import cpu_kernels, depthwise
from trainable.config import TrialConfig
from trainable.depthwise import DepthwiseConv2d
from trainable.state import TrialState

NETWORKS = (
    "convnext_atto",
    "convnext_femto",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "efficientnet_b0",
)


Quicken = Literal["quicken_depthwise", "quicken_small_maps", "quicken_batch_norm"]


def torchs_own(quicken: Quicken) -> AbstractContextManager[object]:
    """Have trials that are built within it keep torch's layers where `quicken` would change them."""
    return mock.patch.object(cpu_kernels, quicken, return_value=[])


def step_of(trial: TrialState, size: tuple[int, int]) -> Callable[[], float]:
    """Return a function that takes a bare step and returns its seconds."""
    images = torch.randn(BATCH, 3, *size).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % CLASSES
    trial.model.train()

    def step() -> float:
        start = time.perf_counter()
        trial.optimizer.zero_grad(set_to_none=True)
        with trial.precision.autocast(trial.device):
            logits = trial.model(images)
        functional.cross_entropy(logits.float(), targets).backward()
        trial.optimizer.step()
        return time.perf_counter() - start

    return step


def compared(
    config: TrialConfig, size: tuple[int, int], rounds: int, quicken: Quicken
) -> tuple[TrialState, float, str]:
    """Return a trial, the median milliseconds of its bare step, and how many times as long one without takes.

    Args:
        config: The trial, at the number format that `precision: auto` chooses for it, or its own.
        size: Of its images.
        rounds: Steps of each; neither of the two is always the second.
        quicken: What the other trial does without.
    """
    dataset, split = random_images(BATCH, size)
    quick = TrialState(config, dataset, split, torch.device("cpu"))
    training = config.training.model_copy(update={"precision": quick.precision.name})
    with torchs_own(quicken):
        plain = TrialState(
            config.model_copy(update={"training": training}), dataset, split, torch.device("cpu")
        )
    mine, theirs = step_of(quick, size), step_of(plain, size)
    mine(), theirs()
    times = []
    for number in range(rounds):
        if number % 2:
            other, one = theirs(), mine()
        else:
            one, other = mine(), theirs()
        times.append((one, other))
    ratios = shown([other / one for one, other in times], 2, "x")
    return quick, 1e3 * statistics.median(one for one, _ in times), ratios


def measured(network: str, size: tuple[int, int], rounds: int) -> str:
    """Return a row of the table."""
    quick, milliseconds, ratios = compared(trial_config(network, 1), size, rounds, "quicken_depthwise")
    layers = sum(isinstance(module, DepthwiseConv2d) for module in quick.model.modules())
    name = quick.precision.name
    return f"| {network} | {size[0]}x{size[1]} | {name} | {layers} | {milliseconds:.0f} | {ratios} |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--narrowest", type=int, default=depthwise.NARROWEST, help="columns of a kernel")
    given = parser.parse_args()
    rounds, depthwise.NARROWEST = given.rounds, given.narrowest
    command = f"python -m benchmarks.depthwise_gradient --rounds {rounds} --narrowest {given.narrowest}"
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    print("| network | size | format | layers | ms a step | over torch's own: median (every round) |")
    print("|---|---|---|---:|---:|---|")
    for network in NETWORKS:
        for size in SIZES:
            print(measured(network, size, rounds), flush=True)


if __name__ == "__main__":
    main()

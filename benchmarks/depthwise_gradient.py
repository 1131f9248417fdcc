"""What the faster gradient of depthwise kernels is worth on a CPU: a bare step with it against one without.

    python -m benchmarks.depthwise_gradient [--rounds 5]

Batch 128, channels-last, the number format that `precision: auto` chooses; both in turn, on the same network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.epoch_efficiency import BATCH, CLASSES, SIZES, random_images, trial_config
from benchmarks.table import heading, shown
from trainable import depthwise
from trainable.depthwise import DepthwiseConv2d
from trainable.state import TrialState

NETWORKS = ("convnext_atto", "mobilenetv3_small_050", "mobilenetv3_large_100", "efficientnet_b0")


def torchs_own(gradient: Tensor, images: Tensor, kernel: Tensor, stride: Any, padding: Any) -> Tensor:
    """Return what `depthwise.weight_gradient` does, by torch alone."""
    return depthwise._gradients(gradient, images, kernel, stride, padding, weight=True)


def steps_of(network: str, size: tuple[int, int]) -> tuple[Callable[[Any], float], str]:
    """Return a function that takes a step with a gradient and returns its seconds, and what it steps on."""
    dataset, split = random_images(BATCH, size)
    trial = TrialState(trial_config(network, 1), dataset, split, torch.device("cpu"))
    layers = sum(isinstance(module, DepthwiseConv2d) for module in trial.model.modules())
    images = torch.randn(BATCH, 3, *size).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % CLASSES
    trial.model.train()

    def step(gradient: Any) -> float:
        depthwise.weight_gradient = gradient
        start = time.perf_counter()
        trial.optimizer.zero_grad(set_to_none=True)
        with trial.precision.autocast(trial.device):
            logits = trial.model(images)
        functional.cross_entropy(logits.float(), targets).backward()
        trial.optimizer.step()
        return time.perf_counter() - start

    return step, f"{network} | {size[0]}x{size[1]} | {trial.precision.name} | {layers}"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds, quick = parser.parse_args().rounds, depthwise.weight_gradient
    print(heading(f"python -m benchmarks.depthwise_gradient --rounds {rounds}").partition("\n")[0], end="\n\n")
    print("| network | size | format | layers | ms a step | over torch's own: median (every round) |")
    print("|---|---|---|---:|---:|---|")
    for network in NETWORKS:
        for size in SIZES:
            step, what = steps_of(network, size)
            step(torchs_own), step(quick)
            times = [(step(torchs_own), step(quick)) for _ in range(rounds)]
            milliseconds = 1e3 * statistics.median(mine for _, mine in times)
            print(
                f"| {what} | {milliseconds:.0f} | {shown([plain / mine for plain, mine in times], 2, 'x')} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

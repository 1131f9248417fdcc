"""What depthwise convolutions cost in bf16 on a CPU, and what is gained by leaving them in fp32.

    python -m benchmarks.depthwise_fp32 [--rounds 5]

Images a second of a bare training step, batch 128, channels-last: fp32, bf16 throughout, and bf16 as
`trainable.precision.keep_in_fp32` leaves it; in turn, each round of all three, with torch's own gradients.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from benchmarks.epoch_efficiency import BATCH, SIZES, random_images, trial_config
from benchmarks.kernels import step_of, torchs_own
from benchmarks.table import shown
from trainable.state import TrialState

NETWORKS = ("mobilenetv3_small_050", "convnext_atto", "efficientnet_b0")


def rate_of(network: str, size: tuple[int, int], name: str, *, kept: bool = True) -> Callable[[], float]:
    """Return a function that takes one step and returns images a second."""
    device, precision = torch.device("cpu"), {"precision": name}
    config = trial_config(network, 1)
    config = config.model_copy(update={"training": config.training.model_copy(update=precision)})
    dataset, split = random_images(BATCH, size)
    with torchs_own("quicken_depthwise"):
        trial = TrialState(config, dataset, split, device)
    if not kept:
        for module in trial.model.modules():
            if isinstance(module, nn.Conv2d) and isinstance(module.forward, partial):
                del module.forward
    seconds = step_of(trial, size)
    return lambda: BATCH / seconds()


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| network | size | fp32, images/s | bf16 throughout over fp32 | depthwise left in fp32 over fp32 |")
    print("|---|---|---:|---|---|")
    for network in NETWORKS:
        for size in SIZES:
            steps = [
                rate_of(network, size, "fp32"),
                rate_of(network, size, "bf16", kept=False),
                rate_of(network, size, "bf16"),
            ]
            for step in steps:
                step()
            rates = [[step() for step in steps] for _ in range(rounds)]
            plain = statistics.median(rate[0] for rate in rates)
            ratios = [shown([rate[at] / rate[0] for rate in rates], 2, "x") for at in (1, 2)]
            print(f"| {network} | {size[0]}x{size[1]} | {plain:.0f} | {ratios[0]} | {ratios[1]} |", flush=True)


if __name__ == "__main__":
    main()

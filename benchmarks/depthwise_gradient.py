"""What the faster gradient of depthwise kernels is worth on a CPU: a bare step with it against one without.

    [OMP_NUM_THREADS=1] python -m benchmarks.depthwise_gradient [--rounds 5] [--narrowest 7]

Batch 128, channels-last, the number format that `precision: auto` chooses; two networks alike, in turn.
`--narrowest 5` gives the gradient to kernels of five columns as well.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.epoch_efficiency import SIZES
from benchmarks.kernels import NETWORKS_HEAD, network_row
from benchmarks.table import heading
from trainable import depthwise
from trainable.depthwise import DepthwiseConv2d

NETWORKS = (
    "convnext_atto",
    "convnext_femto",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "efficientnet_b0",
)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--narrowest", type=int, default=depthwise.NARROWEST, help="columns of a kernel")
    given = parser.parse_args()
    rounds, depthwise.NARROWEST = given.rounds, given.narrowest
    command = f"python -m benchmarks.depthwise_gradient --rounds {rounds} --narrowest {given.narrowest}"
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    print(NETWORKS_HEAD)
    for network in NETWORKS:
        for size in SIZES:
            print(network_row(network, size, rounds, "quicken_depthwise", DepthwiseConv2d), flush=True)


if __name__ == "__main__":
    main()

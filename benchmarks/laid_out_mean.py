"""What it is worth on a CPU that the gradient of a mean over pixels lies as the images do.

    [OMP_NUM_THREADS=1] python -m benchmarks.laid_out_mean [--rounds 15]

A bare step of a network with laid out means against one without, batch 128, in turn, in the number format that
`precision: auto` chooses.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch

from benchmarks.epoch_efficiency import SIZES
from benchmarks.kernels import NETWORKS_HEAD, network_row
from benchmarks.table import heading
from trainable.host_memory import keep_freed_memory
from trainable.laid_out_mean import LAID_OUT

NETWORKS = (
    "resnet10t",
    "resnet18",
    "mobilenetv3_small_050",
    "efficientnet_b0",
    "ghostnet_050",
    "regnety_002",
    "mnasnet_small",
    "convnext_atto",
    "torchvision:mobilenet_v3_small",
)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    keep_freed_memory()
    command = f"python -m benchmarks.laid_out_mean --rounds {given.rounds}"
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    print(NETWORKS_HEAD)
    for network, size in product(NETWORKS, SIZES):
        print(network_row(network, size, given.rounds, "lay_out_means", tuple(LAID_OUT.values())), flush=True)


if __name__ == "__main__":
    main()

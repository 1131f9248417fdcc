"""What it is worth on a CPU to fold pixels for batch norm over few channels.

    [OMP_NUM_THREADS=1] python -m benchmarks.folded_batch_norm [--rounds 9] [--layers]

A bare step of a network with folded batch norms against one without, batch 128, in turn, in the number format
that `precision: auto` chooses. `--layers` times single batch norms instead, on which the bounds in
`trainable/folded_batch_norm.py` rest.
"""

from __future__ import annotations

import argparse
import copy
from itertools import product

import torch
from torch import nn

from benchmarks.epoch_efficiency import BATCH, SIZES
from benchmarks.kernels import NETWORKS_HEAD, network_row, timed
from benchmarks.table import heading
from trainable import folded_batch_norm
from trainable.folded_batch_norm import FoldedBatchNorm2d, quicken_batch_norm
from trainable.host_memory import keep_freed_memory

NETWORKS = (
    "resnet10t",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "ghostnet_050",
    "lcnet_050",
    "mnasnet_small",
    "regnetx_002",
    "torchvision:shufflenet_v2_x0_5",
)
CHANNELS, OUTPUTS = (8, 12, 24, 40, 72, 120), ((4, 5), (8, 10), (15, 20), (30, 40))


def layer_row(channels: int, output: tuple[int, int], dtype: torch.dtype, rounds: int) -> str:
    """Return a row of the layers' table."""
    images = torch.randn(BATCH, channels, *output).to(dtype=dtype, memory_format=torch.channels_last)
    images.requires_grad_()
    norm = nn.BatchNorm2d(channels)
    quick = copy.deepcopy(norm)
    quicken_batch_norm(nn.Sequential(quick))
    upstream = torch.randn_like(images)

    def milliseconds(one: nn.BatchNorm2d) -> float:
        wanted = (images, one.weight, one.bias)
        return timed(lambda: torch.autograd.grad(one(images), wanted, upstream), rounds)

    torchs, ours = milliseconds(norm), milliseconds(quick)
    numbers, name = images.numel() // 1000, str(dtype).removeprefix("torch.")
    size = f"{channels}, {output[0]}x{output[1]}"
    return f"| {size} | {name} | {numbers} | {torchs:.2f} | {ours:.2f} | {torchs / ours:.2f}x |"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--layers", action="store_true", help="time single batch norms")
    given = parser.parse_args()
    keep_freed_memory()
    command = f"python -m benchmarks.folded_batch_norm --rounds {given.rounds}"
    command += " --layers" if given.layers else ""
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    if given.layers:
        folded_batch_norm.FEWEST = 0
        folded_batch_norm.WIDEST = folded_batch_norm.WIDEST_ALONE = max(CHANNELS) + 1
        print("| channels, map | format | thousand numbers | torch's, ms | folded | torch's over it |")
        print("|---|---|---:|---:|---:|---|")
        for dtype, channels, output in product((torch.bfloat16, torch.float32), CHANNELS, OUTPUTS):
            print(layer_row(channels, output, dtype, given.rounds), flush=True)
        return
    print(NETWORKS_HEAD)
    for network, size in product(NETWORKS, SIZES):
        print(network_row(network, size, given.rounds, "quicken_batch_norm", FoldedBatchNorm2d), flush=True)


if __name__ == "__main__":
    main()

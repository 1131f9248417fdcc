"""What it is worth on a CPU to multiply matrices where a convolution has few output pixels.

    [OMP_NUM_THREADS=1] python -m benchmarks.small_maps [--precision fp32] [--rounds 5] [--layers]

A bare step of a network in bf16 (or fp32) with products against one without, batch 128, in turn. `--layers`
times single convolutions of many sizes instead, on which the bounds in `trainable/small_map_ways.py` rest: as
torch has them, and as `trainable/small_maps.py` does.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import astuple
from functools import partial
from itertools import product

import torch
from torch import nn

from benchmarks.epoch_efficiency import SIZES, trial_config
from benchmarks.kernels import compared, timed
from benchmarks.table import heading
from trainable.host_memory import keep_freed_memory
from trainable.precision import PrecisionName
from trainable.small_map_ways import TORCHS, ways_of
from trainable.small_maps import SmallMapConv2d, quicken_small_maps

NETWORKS = ("resnet10t", "resnet18", "resnet50", "mobilenetv3_small_050", "efficientnet_b0", "convnext_atto")
LAYERS = (
    (3, 64, 64, 1),
    (3, 64, 128, 2),
    (3, 128, 128, 1),
    (3, 128, 256, 2),
    (3, 256, 256, 1),
    (3, 256, 512, 2),
    (3, 512, 512, 1),
    (1, 16, 8, 1),
    (1, 24, 144, 1),
    (1, 144, 40, 1),
    (1, 64, 256, 1),
    (1, 128, 256, 2),
    (1, 256, 64, 1),
    (1, 512, 128, 1),
    (1, 512, 2048, 1),
    (1, 1024, 2048, 2),
    (1, 2048, 512, 1),
)
"""Kernel, channels of the input and of the output, stride."""
OUTPUTS = ((1, 1), (2, 2), (2, 3), (4, 4), (4, 5), (8, 8), (8, 10), (16, 16))
BATCHES, MOST_PRODUCTS = (32, 128), 6e9


def network_row(network: str, size: tuple[int, int], precision: PrecisionName, rounds: int) -> str:
    """Return a row of the networks' table."""
    config = trial_config(network, 1)
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": precision})})
    quick, milliseconds, ratios = compared(config, size, rounds, "quicken_small_maps")
    layers = sum(isinstance(module, SmallMapConv2d) for module in quick.model.modules())
    return f"| {network} | {size[0]}x{size[1]} | {layers} | {milliseconds:.0f} | {ratios} |"


def layer_row(
    batch: int,
    size: int,
    channels: int,
    out_channels: int,
    stride: int,
    output: tuple[int, int],
    precision: PrecisionName,
    rounds: int,
) -> str | None:
    """Return a row of the layers' table; None where it would take too long, or torch's own is taken."""
    height, width = output
    shape = torch.Size((batch, channels, height * stride, width * stride))
    if batch * height * width * channels * out_channels * size * size > MOST_PRODUCTS:
        return None
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    ways = ways_of(dtype, size, stride, out_channels, shape)
    if ways == TORCHS:
        return None
    images = torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()
    plain = nn.Conv2d(channels, out_channels, size, stride, size // 2, bias=False)
    plain = plain.to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    quicken_small_maps(nn.Sequential(quick))
    upstream = torch.randn_like(plain(images)).to(dtype)

    def passed(conv: nn.Conv2d, *, back: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), torch.set_grad_enabled(back):
            convolved = conv(images)
        if back:
            images.grad = conv.weight.grad = None
            convolved.backward(upstream)

    times = [
        [timed(partial(passed, conv, back=back), rounds) for back in (False, True)] for conv in (plain, quick)
    ]
    (torchs_forward, torchs), (forward, ours) = times
    layer = f"{size}x{size}, {channels} to {out_channels}{', stride 2' if stride == 2 else ''}"
    return (
        f"| {batch} | {layer} | {height}x{width} | {torchs_forward:.2f}, {torchs:.2f} "
        f"| {forward:.2f}, {ours:.2f} | {torchs / ours:.2f}x | {', '.join(astuple(ways))} |"
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--layers", action="store_true", help="time single convolutions")
    given = parser.parse_args()
    keep_freed_memory()
    command = f"python -m benchmarks.small_maps --precision {given.precision} --rounds {given.rounds}"
    command += " --layers" if given.layers else ""
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    if given.layers:
        print("| batch | layer | output | torch's, ms: forward, all | ours | all | forward, images, weight |")
        print("|---:|---|---|---:|---:|---:|---|")
        for batch, layer, output in product(BATCHES, LAYERS, OUTPUTS):
            row = layer_row(batch, *layer, output, given.precision, given.rounds)
            if row:
                print(row, flush=True)
        return
    print("| network | size | layers | ms a step | over torch's own: median (every round) |")
    print("|---|---|---:|---:|---|")
    for network in NETWORKS:
        for size in SIZES:
            print(network_row(network, size, given.precision, given.rounds), flush=True)


if __name__ == "__main__":
    main()

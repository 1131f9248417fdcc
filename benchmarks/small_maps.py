"""What it is worth on a CPU to multiply matrices where a bf16 convolution has few output pixels.

    [OMP_NUM_THREADS=1] python -m benchmarks.small_maps [--rounds 5] [--layers]

A bare step of a network in bf16 with products against one without, batch 128, in turn. `--layers` times single
convolutions of many sizes instead, on which the bounds in `trainable/small_maps.py` rest.
"""

from __future__ import annotations

import argparse
from itertools import product

import torch
from torch.nn import functional

from benchmarks.epoch_efficiency import SIZES, trial_config
from benchmarks.kernels import compared, timed
from benchmarks.table import heading
from trainable.host_memory import keep_freed_memory
from trainable.quick_convolution import torchs_gradient
from trainable.small_maps import SmallMapConv2d, multiplied, unfolded

NETWORKS = ("resnet10t", "resnet18", "resnet50", "efficientnet_b0")
LAYERS = (
    (3, 64, 64, 1),
    (3, 64, 128, 2),
    (3, 128, 128, 1),
    (3, 128, 256, 2),
    (3, 256, 256, 1),
    (3, 256, 512, 2),
    (3, 512, 512, 1),
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


def network_row(network: str, size: tuple[int, int], rounds: int) -> str:
    """Return a row of the networks' table."""
    config = trial_config(network, 1)
    config = config.model_copy(update={"training": config.training.model_copy(update={"precision": "bf16"})})
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
    rounds: int,
) -> str | None:
    """Return a row of the layers' table; None where it would take too long."""
    height, width = output
    images = torch.randn(batch, channels, height * stride, width * stride).bfloat16()
    images = images.to(memory_format=torch.channels_last)
    kernel = torch.randn(out_channels, channels, size, size).bfloat16().to(memory_format=torch.channels_last)
    gradient = torch.randn_like(functional.conv2d(images, kernel, None, stride, size // 2))
    if gradient.numel() * kernel[0].numel() > MOST_PRODUCTS:
        return None
    pixels, columns = gradient.permute(0, 2, 3, 1).flatten(0, 2), unfolded(images, size, stride)
    taps = kernel.permute(0, 2, 3, 1).flatten(1).t()
    beside = size // 2, size // 2
    torchs = timed(
        lambda: torchs_gradient(gradient, images, kernel, (stride, stride), beside, 1, weight=True), rounds
    )
    torchs_forward = timed(lambda: functional.conv2d(images, kernel, None, stride, size // 2), rounds)
    ours = timed(lambda: unfolded(images, size, stride), rounds) + timed(lambda: pixels.t() @ columns, rounds)
    ours_forward = timed(lambda: columns @ taps, rounds)
    whole, gradient_too = multiplied(size, stride, out_channels, images.shape)
    taken = "both" if whole else "gradient" if gradient_too else "neither"
    both = (torchs_forward + torchs) / (ours_forward + ours)
    layer = f"{size}x{size}, {channels} to {out_channels}{', stride 2' if stride == 2 else ''}"
    return (
        f"| {batch} | {layer} | {height}x{width} | {torchs_forward:.2f}, {torchs:.2f} "
        f"| {torchs / ours:.2f}x | {both:.2f}x | {taken} |"
    )


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", action="store_true", help="time single convolutions")
    given = parser.parse_args()
    keep_freed_memory()
    command = f"python -m benchmarks.small_maps --rounds {given.rounds}{' --layers' if given.layers else ''}"
    print(heading(f"{command}, {torch.get_num_threads()} threads").partition("\n")[0], end="\n\n")
    if given.layers:
        print("| batch | layer | output | torch's, ms: forward, gradient | gradient | both | taken |")
        print("|---:|---|---|---:|---:|---:|---|")
        for batch, layer, output in product(BATCHES, LAYERS, OUTPUTS):
            row = layer_row(batch, *layer, output, given.rounds)
            if row:
                print(row, flush=True)
        return
    print("| network | size | layers | ms a step | over torch's own: median (every round) |")
    print("|---|---|---:|---:|---|")
    for network in NETWORKS:
        for size in SIZES:
            print(network_row(network, size, given.rounds), flush=True)


if __name__ == "__main__":
    main()

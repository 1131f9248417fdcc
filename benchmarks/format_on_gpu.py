"""fp32 against bf16 on a GPU where depthwise convolutions stay contiguous: first trial, second, later epochs.

    python -m benchmarks.format_on_gpu [--rounds 5]

Each format in a process of its own that has trained another network before, in turn. fp32 multiplies in TF32 in
convolutions, as torch does by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from benchmarks.epoch_efficiency import SIZES
from benchmarks.precision_auto import ON_GPU, timed_apart
from benchmarks.table import Row, run, shown
from trainable.precision import Precision

NETWORKS = ("efficientnet_b0", "mobilenetv2_100", "mobilenetv3_small_050")
FORMATS = [Precision(name, channels_last=False) for name in ("fp32", "bf16")]


def rows(rounds: int) -> Iterator[Row]:
    """Yield two rows a network and size."""
    if not ON_GPU:
        yield Row("-", "fp32 against bf16, contiguous", "stated", "no GPU here", False)
        return
    for network, size in product(NETWORKS, (*SIZES, (128, 128))):
        full, half = timed_apart(network, size, FORMATS, rounds).values()
        what = f"{network}, {size[0]}x{size[1]}"
        seconds = f"{full.first:.2f} and {full.again:.2f} s, {half.first:.2f} and {half.again:.2f} s"
        yield Row(
            "-", f"first epoch, fp32 and bf16, of a first trial and a second: {what}", "stated", seconds, True
        )
        shares = [one / other for one, other in zip(full.rates, half.rates, strict=True)]
        yield Row("-", f"images/s later, fp32 over bf16: {what}", "stated", shown(shares), True)


if __name__ == "__main__":
    run(rows, __doc__)

"""Which number format a GPU trains a network faster in: some passes of each, where the trial is long enough."""

from __future__ import annotations

import time
from copy import deepcopy

import torch
from torch import nn

from trainable.graphs import GraphedForward
from trainable.precision import Precision, PrecisionName

LOADING_SHARE = 0.03
"""Of the time of a trial's passes, the most that one format's first ones may take for another to be tried."""
WORTH = 0.95
"""fp32 is chosen below this share of the other's time: it takes twice the memory."""
ROUNDS, PASSES = 5, 4


def faster_on_gpu(
    model: nn.Module,
    half: Precision,
    images: tuple[int, int, int, int],
    num_images: int,
    device: torch.device,
    *,
    graphs: bool,
) -> PrecisionName | None:
    """Return which of fp32 and `half` trains `model` faster; None where finding out is not worth it.

    Small networks are made of so many small kernels that converting the weights costs more than it saves. The
    second format's kernels are as dear to load as the first's, a tenth of a second to several.

    Args:
        model: On the CPU; copies of it are timed.
        half: A format of 16 bits, and the layout of both.
        images: Of a batch: number, channels, height and width.
        num_images: That the trial will show its network, each as often as it is shown.
        device: The GPU.
        graphs: Whether the trial's passes are replayed (`trainable.graphs`).
    """
    try:
        loading, seconds = _timed(model, half, images, device, graphs=graphs)
        if loading > LOADING_SHARE * seconds * num_images / images[0]:
            return None
        _, in_fp32 = _timed(model, Precision("fp32", half.channels_last), images, device, graphs=graphs)
    except torch.OutOfMemoryError:
        return half.name
    finally:
        torch.cuda.empty_cache()
    return "fp32" if in_fp32 < WORTH * seconds else half.name


def _timed(
    model: nn.Module,
    precision: Precision,
    shape: tuple[int, int, int, int],
    device: torch.device,
    *,
    graphs: bool,
) -> tuple[float, float]:
    """Return the seconds of the first two passes, and of one later on: forward and backward, of a batch."""
    network = deepcopy(model).to(device=device, memory_format=precision.memory_format).train()  # type: ignore[call-overload]
    forward = GraphedForward(network, precision, shape[0]) if graphs else network
    images = torch.rand(shape).to(device=device, memory_format=precision.memory_format)

    def seconds(passes: int) -> float:
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(passes):
            network.zero_grad(set_to_none=True)
            with precision.autocast(device):
                logits = forward(images)
            logits.float().square().mean().backward()
        torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / passes

    loading = 2 * seconds(2)
    return loading, min(seconds(PASSES) for _ in range(ROUNDS))


__all__ = ["faster_on_gpu"]

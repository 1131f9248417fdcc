"""What the measures of faster CPU kernels share: a network's bare step with one against without, and a call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Literal
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

from benchmarks.epoch_efficiency import BATCH, CLASSES, random_images, trial_config
from benchmarks.table import shown
from trainable import cpu_kernels
from trainable.config import TrialConfig
from trainable.state import TrialState

NETWORKS_HEAD = """| network | size | format | layers | ms a step | over torch's own: median (every round) |
|---|---|---|---:|---:|---|"""
"""Of the table of `network_row`."""
Quicken = Literal[
    "quicken_depthwise", "quicken_small_maps", "quicken_batch_norm", "lay_out_means", "pool_first"
]


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
    return quick, *in_turn(step_of(quick, size), step_of(plain, size), rounds)


def in_turn(mine: Callable[[], float], theirs: Callable[[], float], rounds: int) -> tuple[float, str]:
    """Return the median milliseconds of `mine`, and how many times as long `theirs` takes, shown.

    Each returns its seconds. Neither is always the second, and a first call of each is not counted.
    """
    mine(), theirs()
    times = []
    for number in range(rounds):
        if number % 2:
            other, one = theirs(), mine()
        else:
            one, other = mine(), theirs()
        times.append((one, other))
    ratios = shown([other / one for one, other in times], 2, "x")
    return 1e3 * statistics.median(one for one, _ in times), ratios


def network_row(
    network: str,
    size: tuple[int, int],
    rounds: int,
    quicken: Quicken,
    kind: type[nn.Module] | tuple[type[nn.Module], ...],
) -> str:
    """Return a row of the networks' table; `kind` is what `quicken` makes of a layer."""
    quick, milliseconds, ratios = compared(trial_config(network, 1), size, rounds, quicken)
    layers = sum(isinstance(module, kind) for module in quick.model.modules())
    name = quick.precision.name
    return f"| {network} | {size[0]}x{size[1]} | {name} | {layers} | {milliseconds:.0f} | {ratios} |"


def timed(call: Callable[[], object], rounds: int) -> float:
    """Return the median milliseconds of a call, after a first that is not counted."""
    call()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)

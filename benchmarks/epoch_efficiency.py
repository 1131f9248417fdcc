"""P1: a training epoch with everything on, against the same network's bare step on one resident batch.

    python -m benchmarks.epoch_efficiency [--rounds 5]

Both sides alternate within a round: same network, number format, optimizer and batch size. The epoch gathers,
augments (flip, crop, rotation, brightness, erasing), mixes, steps, averages weights and counts losses.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.table import Row, run, shown
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.host_memory import keep_freed_memory
from trainable.state import TrialState

NETWORKS = ("resnet10t", "mobilenetv3_small_050", "convnext_atto")
SIZES = ((32, 32), (60, 80))
BATCH, CLASSES = 128, 100


@dataclass(frozen=True)
class Efficiency:
    """Images a second of the epoch over those of the bare step, for each round.

    Attributes:
        network: By its name.
        size: Height and width in pixels.
        precision: The number format of both.
        ratios: Of the rounds.
        bare: Images a second of the bare step, for each round.
        recorded: The same ratios over the bare step with its passes replayed (`trainable/graphs.py`), on a GPU.
    """

    network: str
    size: tuple[int, int]
    precision: str
    ratios: tuple[float, ...]
    bare: tuple[float, ...]
    recorded: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the rounds."""
        return statistics.median(self.ratios)


def random_images(count: int, size: tuple[int, int]) -> tuple[ImageDataset, Split]:
    """Return `count` images of noise to train on: what they show does not change what they cost."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count + BATCH, *size, 3), dtype=np.uint8)
    labels = np.arange(count + BATCH) % CLASSES
    names = tuple(str(label) for label in range(CLASSES))
    dataset = ImageDataset(images, labels, names, "noise", "noise", np.zeros(len(labels), dtype=np.int8))
    return dataset, Split(np.arange(count), np.arange(count, count + BATCH), np.arange(0))


def trial_config(network: str, epochs: int) -> TrialConfig:
    """Return a trial with the augmentation of most recipes, Mixup and EMA."""
    return TrialConfig.model_validate(
        {
            "epochs": epochs,
            "batch_size": BATCH,
            "backbone": {"name": network, "small_stem_up_to": 32},
            "augment": [{"name": n} for n in ("flip", "crop", "rotation", "brightness", "erasing")],
            "mixing": "mixup",
            "averaging": "ema",
        }
    )


def epoch_of(trial: TrialState) -> Callable[[int], float]:
    """Return a function that trains an epoch as `trainable.loop.fit` does, and returns images a second."""

    def epoch(number: int) -> float:
        losses, positions = trial.loss_meter(), trial.begin_epoch(number)
        start = time.perf_counter()
        for step, batch in enumerate(trial.batches.train(positions, number)):
            trial.set_lr(number, step)
            losses.add(trial.stepper(batch.mixed), batch.positions)
            trial.averager.after_step()
        losses.mean()
        return len(positions) / (time.perf_counter() - start)

    return epoch


def measure(network: str, size: tuple[int, int], rounds: int, **training: bool) -> Efficiency:
    """Return the efficiency of one network at one size; `training` is added to the trial's own."""
    on_gpu = torch.cuda.is_available()
    count = 32 * BATCH if on_gpu else 4 * BATCH
    dataset, split = random_images(count, size)
    config = trial_config(network, rounds + 1)
    config = config.model_copy(update={"training": config.training.model_copy(update=training)})
    trial = TrialState(config, dataset, split, torch.device("cuda" if on_gpu else "cpu"))
    images = (
        torch.randn(BATCH, 3, *size).contiguous(memory_format=trial.precision.memory_format).to(trial.device)
    )
    targets = (torch.arange(BATCH) % CLASSES).to(trial.device)

    def bare(forward: Callable[[Tensor], Tensor] = trial.model) -> float:
        trial.model.train()
        start = time.perf_counter()
        for _ in range(count // BATCH):
            trial.optimizer.zero_grad(set_to_none=True)
            with trial.precision.autocast(trial.device):
                logits = forward(images)
            loss = functional.cross_entropy(logits.float(), targets)
            loss.backward()
            trial.optimizer.step()
        loss.item()  # on a GPU, waits
        return count // BATCH * BATCH / (time.perf_counter() - start)

    epoch = epoch_of(trial)
    epoch(0), bare()
    ratios, steps, recorded = [], [], []
    for number in range(rounds):
        rate = epoch(number + 1)
        steps.append(bare())
        ratios.append(rate / steps[-1])
        if on_gpu:
            recorded.append(rate / bare(trial.forward))
    return Efficiency(network, size, trial.precision.name, tuple(ratios), tuple(steps), tuple(recorded))


def rows(rounds: int) -> Iterator[Row]:
    """Yield a row a network and size, and the median of all."""
    keep_freed_memory()  # as a worker does, for both sides
    floor = 0.95 if torch.cuda.is_available() else 0.85
    medians = []
    for network in NETWORKS:
        for size in SIZES:
            found = measure(network, size, rounds)
            medians.append(found.median)
            what = f"epoch over bare step: {network}, {size[0]}x{size[1]}, {found.precision}"
            yield Row("P1", what, f"{floor}", shown(found.ratios), found.median >= floor)
            if found.recorded:
                what = (
                    f"the same over the bare step replayed ({statistics.median(found.bare):.0f} images/s plain)"
                )
                yield Row("P1", what, "stated", shown(found.recorded), True)
    overall = statistics.median(medians)
    yield Row("P1", "median of these", "0.90", f"{overall:.2f}", overall >= 0.90)


if __name__ == "__main__":
    run(rows, __doc__)

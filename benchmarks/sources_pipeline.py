"""The sources' own way of a batch: files, Pillow transforms an image at a time, DataLoader workers, fp32.

What a configuration says of network, loss, class weights, optimizer and schedule is built by the same code as
anywhere else, so that two pipelines that train the same configuration differ in nothing but the pipeline.
Generous to the sources: their files are small PNGs that are already at the wanted size.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from trainable.config import TrialConfig
from trainable.data.batches import Batch
from trainable.data.dataset import ImageDataset, Split
from trainable.data.normalisation import Normalisation
from trainable.evaluate import predict_logits
from trainable.mixing import Mixed
from trainable.seeding import derived_seed, generator_for, seeded
from trainable.state import TrialState

PILLOW: dict[str, Callable[..., nn.Module]] = {
    "flip": lambda op, size: transforms.RandomHorizontalFlip(op.p),
    "crop": lambda op, size: transforms.RandomCrop(size, padding=op.padding),
    "rotation": lambda op, size: transforms.RandomRotation(op.degrees),
    "brightness": lambda op, size: transforms.ColorJitter(brightness=op.strength),
}
"""What torchvision offers for an operation of ours, on a Pillow image."""
TRIED_WORKERS = (0, 1, 2, 4, 8, 16)


def write_files(dataset: ImageDataset, root: Path) -> Path:
    """Write every image as `root/<class>/<position>.png`, unless that has been done; return `root`."""
    done = root / ".complete"
    if not done.exists():
        for position, (pixels, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
            path = root / f"{label:04d}" / f"{position:07d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[..., 0] if dataset.channels == 1 else pixels).save(path)
        done.touch()
    return root


class FileBatches:
    """The batches of `trainable.data.batches.Batches`, made by ImageFolder and DataLoader.

    Args:
        root: What `write_files` wrote.
        config: The trial: batch size, augmentation, mixing and flips are read.
        normalisation: Of the training images.
        train: Positions of the training images, `(N,)`.
        workers: Processes of the DataLoader.
        device: Where batches are wanted.
    """

    def __init__(
        self,
        root: Path,
        config: TrialConfig,
        normalisation: Normalisation,
        train: NDArray[np.int64],
        channels: int,
        workers: int,
        device: torch.device,
    ) -> None:
        self.config, self.train_positions, self.workers, self.device = config, train, workers, device
        size = Image.open(next(root.glob("*/*.png"))).size[::-1]
        last = [transforms.ToTensor(), transforms.Normalize(normalisation.mean, normalisation.std)]
        first = [transforms.Grayscale()] if channels == 1 else []
        ops = [op for op in config.augment if op.name != "flip" or config.data.flips != "none"]
        drawn = [PILLOW[op.name](op, size) for op in ops if op.name in PILLOW]
        masks = [
            transforms.RandomErasing(
                op.p, scale=(op.min_area, op.max_area), ratio=(op.min_aspect, 1 / op.min_aspect)
            )
            for op in ops
            if op.name == "erasing"
        ]
        unknown = {op.name for op in ops} - {*PILLOW, "erasing"}
        assert not unknown, f"no Pillow counterpart for {unknown}"
        self._augmented = ImageFolder(root, transforms.Compose([*first, *drawn, *last, *masks]))
        self._plain = ImageFolder(root, transforms.Compose([*first, *last]))
        order = [int(Path(path).stem) for path, _ in self._plain.samples]
        self._row = np.argsort(order)

    def _loader(self, files: ImageFolder, positions: NDArray[np.int64], batch_size: int) -> DataLoader[Tensor]:
        rows = self._row[positions].tolist()
        return DataLoader(
            Subset(files, rows),
            batch_size=batch_size,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="fork" if self.workers else None,
        )

    def train(self, indices: NDArray[np.int64], epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches: `indices` `(M,)` into the training split, in their order."""
        seen = 0
        for step, (images, targets) in enumerate(
            self._loader(self._augmented, self.train_positions[indices], self.config.batch_size)
        ):
            if len(targets) < 2:
                return
            images, targets = images.to(self.device), targets.to(self.device)
            generator = generator_for(self.device, self.config.seed, "batch", epoch, step)
            mixed = self.config.mixing.apply(images, targets, generator)
            yield Batch(mixed, torch.from_numpy(indices[seen : seen + len(targets)]).to(self.device))
            seen += len(targets)

    def evaluate(self, positions: NDArray[np.int64]) -> Iterator[Batch]:
        """Yield batches of the images at `positions` `(M,)` of the dataset, in their order."""
        for images, targets in self._loader(self._plain, positions, 2 * self.config.batch_size):
            images, targets = images.to(self.device), targets.to(self.device)
            yield Batch(Mixed.unmixed(images, targets), torch.zeros(len(targets), dtype=torch.int64))

    def clean(self) -> Iterator[Tensor]:
        """Yield the training images in their fixed order, not augmented."""
        for batch in self.evaluate(self.train_positions):
            yield batch.images


class SourcesTrial:
    """One configuration trained as the sources train.

    Args:
        config: Trained in fp32, with torch's own gradients and no recorded passes, whatever it says.
        dataset: The images, already at the wanted size.
        split: Trained on `train`, judged on `val`.
        root: What `write_files` wrote of `dataset`.
        workers: Processes of the DataLoader.
        device: Where to train; None takes the CPU.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: ImageDataset,
        split: Split,
        root: Path,
        workers: int,
        device: torch.device | None = None,
    ) -> None:
        fp32 = config.training.model_copy(update={"precision": "fp32", "graphs": False})
        device = device or torch.device("cpu")
        config = config.model_copy(update={"training": fp32})
        with mock.patch("trainable.state.quicken"):  # their layers are torch's own
            self.trial = TrialState(config, dataset, split, device)
        self.trial.model.to(memory_format=torch.contiguous_format)
        normalisation = self.trial.batches.normalisation
        self.batches = FileBatches(root, config, normalisation, split.train, dataset.channels, workers, device)
        self.val, self.targets = split.val, dataset.labels[split.val]

    def train(self, epoch: int) -> float:
        """Train `epoch` (from 0); return the mean loss, which the sources read back after each step."""
        trial, total, steps = self.trial, 0.0, 0
        positions = trial.begin_epoch(epoch)
        with seeded(trial.device, trial.config.seed, "epoch", epoch):
            for number, batch in enumerate(self.batches.train(positions, epoch)):
                trial.set_lr(epoch, number)
                result = trial.stepper(batch.mixed)
                trial.averager.after_step()
                total, steps = total + result.loss.item(), steps + 1
        trial.averager.after_epoch(epoch, self.batches.clean)
        return total / max(1, steps)

    def validate(self) -> float:
        """Return macro-F1 on validation, as scikit-learn computes it."""
        trial = self.trial
        logits = predict_logits(
            trial.averager.evaluated(), self.batches.evaluate(self.val), trial.precision, trial.device
        )
        value = float(
            f1_score(
                self.targets,
                logits.argmax(axis=1),
                labels=np.unique(self.targets),
                average="macro",
                zero_division=0.0,
            )
        )
        trial.schedule.observe(value)
        return value


def best_workers(
    config: TrialConfig, dataset: ImageDataset, split: Split, root: Path, device: torch.device | None = None
) -> int:
    """Return the number of DataLoader workers with which an epoch is fastest: the median of three epochs.

    Workers beside a training that has all cores are fast in one epoch and several times as slow in the next.
    """
    seconds = {}
    for workers in [count for count in TRIED_WORKERS if count <= (os.cpu_count() or 1)]:
        trial = SourcesTrial(config, dataset, split, root, workers, device)
        rounds = []
        for epoch in range(4):
            start = time.perf_counter()
            trial.train(epoch)
            rounds.append(time.perf_counter() - start)
        seconds[workers] = statistics.median(rounds[1:])
    return min(seconds, key=lambda count: seconds[count])


def seed_of(seed: int, number: int) -> int:
    """Return the seed of trial `number` in a search seeded with `seed`."""
    return derived_seed(seed, "race trial", number)


__all__ = ["FileBatches", "SourcesTrial", "best_workers", "seed_of", "write_files"]

"""Batches on the device: indexed, augmented and normalised as batches, uint8 until they are there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.errors import UsageError
from trainable.augment import Draw
from trainable.augment.augmix import AugMix, consistency_weight
from trainable.augment.pipeline import Pipeline
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset
from trainable.data.normalisation import Normalisation, channel_statistics
from trainable.graphs import free_memory
from trainable.mixing import Mixed
from trainable.precision import Precision
from trainable.seeding import generator_for
from trainable.techniques import Linear

_RESIDENT_SHARE = 0.25
"""Largest share of the device's free memory that the images may take: other trials may live there too."""

MOST_AT_ONCE, AT_ONCE_BYTES = 16, 64 << 20
"""Most batches that a GPU augments as one, and most bytes that their pixels take as float32."""


class Batch(NamedTuple):
    """Images and what is known of them.

    Attributes:
        mixed: Normalised images `(B, C, H, W)` float32, targets, partners and shares.
        positions: `(B,)` int64 on the device, as the caller gave them: in the training split for `train`,
            in the dataset for `evaluate`.
    """

    mixed: Mixed
    positions: Tensor

    @property
    def images(self) -> Tensor:
        """`(B, C, H, W)` float32."""
        return self.mixed.images

    @property
    def targets(self) -> Tensor:
        """`(B,)` int64."""
        return self.mixed.targets


class Batches:
    """Turns positions into batches.

    On a GPU the images are uploaded as uint8, with the first batch, where they fit in a quarter of the memory
    that this process may still take; else, and on the CPU, each batch is gathered from the array or memory map,
    which is never copied.
    Randomness comes from (trial seed, epoch, batch) alone, so that equal calls give equal batches
    whatever was asked before; a CPU and a GPU draw different numbers, a GPU for several batches at once.

    Args:
        dataset: The images.
        train: Positions of the training images, `(N,)`.
        config: The trial: batch size, augmentation, mixing, flips, image size, epochs and seed are read.
        device: Where batches are wanted.
        precision: The memory layout is read.
        statistics: Mean and std that trained weights expect, one number for each channel of the network;
            None takes the training images' own. Grey images are repeated to as many channels.

    Raises:
        UsageError: If `statistics` has another number of channels than coloured images.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        train: NDArray[np.int64],
        *,
        config: TrialConfig,
        device: torch.device,
        precision: Precision,
        statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    ) -> None:
        self.train_positions, self.config, self.device = train, config, device
        self.normalisation = Normalisation(*statistics) if statistics else channel_statistics(dataset, train)
        self.channels = len(self.normalisation.mean)
        if dataset.channels not in (1, self.channels):
            raise UsageError(f"the network takes {self.channels} channels, got images of {dataset.channels}")
        self.image_size = config.data.image_size or dataset.image_size
        self._stored_size = dataset.image_size
        self._layout = precision.memory_format
        self._images = dataset.images
        self._labels = torch.from_numpy(dataset.labels.astype(np.int64)).to(device)
        self._rarity = _rarity(dataset.class_counts(train)).to(device)
        mean, std = (
            torch.tensor(row, device=device).view(1, -1, 1, 1)
            for row in (self.normalisation.mean, self.normalisation.std)
        )
        self._view_pipeline = Pipeline(config.augment, mean, std)
        # The consistency loss compares an image without AugMix to two views with it.
        self._num_views = 2 if consistency_weight(config.augment) > 0.0 else 0
        plain = [op for op in config.augment if not isinstance(op, AugMix)]
        self._pipeline = Pipeline(plain, mean, std) if self._num_views else self._view_pipeline

    @cached_property
    def _resident(self) -> Tensor | None:
        """The images on the GPU; frozen features need the sizes of batches alone, and no images."""
        return _uploaded(self._images, self.device)

    def steps_per_epoch(self, num_images: int) -> int:
        """Return how many batches `train` makes of `num_images`."""
        return len(self.cuts(num_images)) - 1

    def train(
        self, indices: NDArray[np.int64], epoch: int, size: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """Yield an epoch's augmented and mixed batches.

        Every image is used: a last batch of a single image, on which batch norm has no variance, joins
        the one before it.

        Args:
            indices: Positions in the training split, `(M,)`, in the order they are seen.
            epoch: From 0.
            size: Height and width for this epoch, in pixels; None takes `size_at(epoch)`.
        """
        local = torch.tensor(indices, device=self.device)
        chosen = self.train_positions[indices]
        on_device = torch.tensor(chosen, device=self.device)
        cuts = self.cuts(len(indices))
        size = size or self.size_at(epoch)
        together = self._batches_at_once(size)
        for step in range(0, len(cuts) - 1, together):
            bounds = cuts[step : step + together + 1]
            start, stop = bounds[0], bounds[-1]
            positions = on_device[start:stop]
            targets = self._labels[positions]
            generator = generator_for(self.device, self.config.seed, "batch", epoch, step)
            raw = self._gathered(chosen[start:stop], positions)
            further = [raw] * self._num_views
            images = self._finished(raw, size, self._draw(raw, targets, generator, epoch))
            before = generator.get_state() if further else None
            for begin, end in pairwise(bounds):
                part = slice(begin - start, end - start)
                mixed = self.config.mixing.apply(images[part], targets[part], generator)
                if before is not None:
                    views = []
                    for number, copy in enumerate(further):
                        other = generator_for(self.device, self.config.seed, "view", epoch, step, number)
                        draw = self._draw(copy, targets, other, epoch)
                        view = self._finished(copy, size, draw, self._view_pipeline)
                        generator.set_state(before)
                        views.append(self.config.mixing.apply(view, targets, generator).images)
                    mixed = mixed._replace(views=torch.stack(views, dim=1))
                yield Batch(mixed, local[begin:end])

    def _batches_at_once(self, size: tuple[int, int]) -> int:
        """Return how many batches are augmented as one; mixing stays within a batch.

        A GPU augments a small batch faster than Python can name the kernels that do it. Where whole batches
        share what the host draws, or are seen again, each is augmented by itself.
        """
        if self.device.type != "cuda" or self._num_views or self._pipeline.image_ops:
            return 1
        height, width = (max(a, b) for a, b in zip(size, self._stored_size, strict=True))
        one = 4 * self.config.batch_size * self.channels * height * width
        return max(1, min(MOST_AT_ONCE, AT_ONCE_BYTES // one))

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every size of a training image, smallest first."""
        return sorted({self.size_at(epoch) for epoch in range(self.config.epochs)})

    def size_at(self, epoch: int) -> tuple[int, int]:
        """Return height and width of training images in `epoch` (from 0), in pixels."""
        growth = self.config.progressive_resizing
        if not isinstance(growth, Linear):
            return self.image_size
        return growth.size_at(epoch, self.config.epochs, self.image_size)

    def evaluate(
        self, positions: NDArray[np.int64], batch_size: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """Yield normalised batches of the images at `positions` `(M,)` of the dataset, in their order.

        Args:
            positions: In the dataset.
            batch_size: None takes twice the training's: no gradients are kept.
            size: Height and width in pixels; None takes `image_size`.
        """
        on_device = torch.tensor(positions, device=self.device)
        step = batch_size or 2 * self.config.batch_size
        for start in range(0, len(positions), step):
            part = on_device[start : start + step]
            raw = self._gathered(positions[start : start + step], part)
            images = self._finished(raw, size or self.image_size, None)
            yield Batch(Mixed.unmixed(images, self._labels[part]), part)

    def clean(self) -> Iterator[Tensor]:
        """Yield the training images in their fixed order, normalised, not augmented, in training batches."""
        cuts = self.cuts(len(self.train_positions))
        on_device = torch.tensor(self.train_positions, device=self.device)
        for start, stop in pairwise(cuts):
            raw = self._gathered(self.train_positions[start:stop], on_device[start:stop])
            yield self._finished(raw, self.image_size, None)

    def cuts(self, num_images: int) -> list[int]:
        """Return where each batch of `num_images` begins, and the end of the last."""
        batch_size = self.config.batch_size
        cuts = list(range(0, num_images, batch_size))
        if len(cuts) > 1 and batch_size > 1 and num_images - cuts[-1] == 1:
            cuts.pop()
        return [*cuts, num_images]

    def _gathered(self, positions: NDArray[np.int64], on_device: Tensor) -> Tensor:
        """Return `(B, C, H, W)` uint8."""
        if self._resident is not None:
            raw = self._resident[on_device]
        else:
            raw = torch.from_numpy(np.take(self._images, positions, axis=0))
            if self.device.type == "cuda":
                raw = raw.pin_memory().to(self.device, non_blocking=True)
        return raw.permute(0, 3, 1, 2)

    def _draw(self, raw: Tensor, targets: Tensor, generator: torch.Generator, epoch: int) -> Draw:
        return Draw(
            batch_size=len(raw),
            height=raw.shape[2],
            width=raw.shape[3],
            flips=self.config.data.flips,
            generator=generator,
            device=self.device,
            rarity=self._rarity[targets],
            epoch_fraction=epoch / self.config.epochs,
        )

    @torch.no_grad()
    def _finished(
        self, raw: Tensor, size: tuple[int, int], draw: Draw | None, pipeline: Pipeline | None = None
    ) -> Tensor:
        # The caller may consume batches under autocast, which would compute colours in 8 bits of mantissa.
        with torch.autocast(self.device.type, enabled=False):
            return (pipeline or self._pipeline)(raw, size, draw, self._layout)


def _uploaded(images: NDArray[np.uint8], device: torch.device) -> Tensor | None:
    """Return `images` on `device` where that is a GPU with room for them."""
    if device.type != "cuda" or images.nbytes > _RESIDENT_SHARE * free_memory(device):
        return None
    resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), 4096):
        part = np.array(images[start : start + 4096])
        resident[start : start + 4096] = torch.from_numpy(part)
    return resident


def _rarity(class_counts: NDArray[np.int64]) -> Tensor:
    """Return `(C,)` in [0, 1]: 0 for the largest class, 1 for the smallest, linear in the log of the count."""
    logs = np.log(np.maximum(class_counts, 1))
    present = logs[class_counts > 0]
    spread = max(float(present.max() - present.min()), 1e-12)
    return torch.from_numpy(np.clip((present.max() - logs) / spread, 0.0, 1.0).astype(np.float32))

"""A frozen backbone: its features computed once and shared, a head trained on them, the network saved whole."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analysis.atomic import CannotWrite, write_atomic
from trainable.backbones.taps import Taps, classifier_of
from trainable.backbones.weights import locate_weights
from trainable.config import TrialConfig
from trainable.cpu_kernels import KERNELS
from trainable.data.batches import Batch, Batches
from trainable.data.cache import fingerprint, locked
from trainable.data.dataset import ImageDataset, Split
from trainable.evaluate import HALF_MAX
from trainable.mixing import Mixed
from trainable.precision import Precision
from trainable.techniques import Features

BATCH_SIZE = 128
"""Images in a pass; fixed, so that trials of every batch size share the augmented views."""


class FrozenNetwork(nn.Module):
    """The classifier of a network at work on features; its state is the whole network's.

    Args:
        network: With one linear classifier; everything else of it is frozen, batch-norm statistics too.
        drop_rate: Share of the features that is dropped in training.
    """

    def __init__(self, network: nn.Module, drop_rate: float) -> None:
        super().__init__()
        classifier = classifier_of(network)
        assert classifier is not None, "refused when the configuration was made"
        self.network, self.drop_rate = network.requires_grad_(False), drop_rate
        # In a tuple, so that it is a module of the network alone and stands once in the state.
        self._classifier = (classifier.requires_grad_(True),)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.track_running_stats = False  # what renews statistics for an average leaves these alone
        self.register_state_dict_post_hook(_without_prefix)  # type: ignore[no-untyped-call]  # torch's has no types
        self.register_load_state_dict_pre_hook(_with_prefix)  # type: ignore[no-untyped-call]  # torch's has no types

    @property
    def frozen_keys(self) -> set[str]:
        """The names, in its state, of what no training changes."""
        trained = set(map(id, self.get_classifier().state_dict(keep_vars=True).values()))
        state = self.state_dict(keep_vars=True)
        return {key for key, value in state.items() if id(value) not in trained}

    def get_classifier(self) -> nn.Module:
        """Return the one layer that is trained."""
        return self._classifier[0]

    def train(self, mode: bool = True) -> Self:
        """Turn dropout on or off; the frozen layers, which no pass goes through, stay as they are."""
        self.training = mode
        return self

    def forward(self, features: Tensor) -> Tensor:
        """Return logits `(B, K)` of features `(B, D, 1, 1)`."""
        classifier = self._classifier[0]
        dropped = dropout(features, self.drop_rate) if self.training else features
        logits: Tensor = classifier(dropped if isinstance(classifier, nn.Conv2d) else dropped.flatten(1))
        return logits.flatten(1)


def dropout(features: Tensor, rate: float) -> Tensor:
    """Return `features` with each number 0 with chance `rate` in [0, 1), else divided by 1 - `rate`.

    On a CPU, torch's own draws its Bernoulli numbers at a third of the speed of uniform ones.
    """
    if features.device.type != "cpu" or rate == 0.0:
        return F.dropout(features, rate)
    return features * torch.rand_like(features).ge_(rate).div_(1.0 - rate)


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    inner = f"{prefix}network."
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key.removeprefix(inner)] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}network.{key.removeprefix(prefix)}"] = state.pop(key)


class FeatureBatches:
    """Batches of stored features in the place of images `(B, D, 1, 1)`; otherwise as `Batches`.

    Args:
        images: Of the same trial; size, normalisation and the cuts of an epoch are theirs.
        train: Float16 features of the training images, `(V, N, D)`: V passes, taken in turn by the epochs.
        known: Dataset position of each row of `clean`, `(M,)`.
        clean: Float16 features `(M, D)` without augmentation.
        labels: Of the whole dataset, `(N_all,)`.
    """

    def __init__(
        self,
        images: Batches,
        train: NDArray[np.float16],
        known: NDArray[np.int64],
        clean: NDArray[np.float16],
        labels: NDArray[np.int64],
    ) -> None:
        self.image_size, self.channels, self.normalisation = (
            images.image_size,
            images.channels,
            images.normalisation,
        )
        self.sizes = images.sizes
        self._cuts, self._evaluation_size = images.cuts, 2 * images.config.batch_size
        self.steps_per_epoch = images.steps_per_epoch
        self._positions, self.device = images.train_positions, images.device
        self._train, self._clean = (torch.from_numpy(part).to(self.device) for part in (train, clean))
        self._labels = torch.from_numpy(labels).to(self.device)
        self._row = np.full(len(labels), -1)
        self._row[known] = np.arange(len(known))

    def train(
        self, indices: NDArray[np.int64], epoch: int, size: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """Yield an epoch's batches: `indices` `(M,)` into the training split, in their order."""
        local = torch.tensor(indices, device=self.device)
        targets = self._labels[torch.tensor(self._positions[indices], device=self.device)]
        features = self._train[epoch % len(self._train)]
        for start, stop in pairwise(self._cuts(len(indices))):
            part = _as_images(features[local[start:stop]])
            yield Batch(Mixed.unmixed(part, targets[start:stop]), local[start:stop])

    def evaluate(
        self, positions: NDArray[np.int64], batch_size: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[Batch]:
        """Yield batches of the images at `positions` `(M,)` of the dataset, in their order."""
        step = batch_size or self._evaluation_size
        for start in range(0, len(positions), step):
            part = positions[start : start + step]
            rows, known = (torch.tensor(index, device=self.device) for index in (self._row[part], part))
            yield Batch(Mixed.unmixed(_as_images(self._clean[rows]), self._labels[known]), known)

    def clean(self) -> Iterator[Tensor]:
        """Yield the training images' features in their fixed order, not augmented."""
        for batch in self.evaluate(self._positions):
            yield batch.images


def _as_images(features: Tensor) -> Tensor:
    return features.float()[:, :, None, None]


def freeze(
    network: nn.Module,
    images: Batches,
    config: TrialConfig,
    dataset: ImageDataset,
    split: Split,
    precision: Precision,
    cache_dir: Path | None,
) -> tuple[FrozenNetwork, FeatureBatches]:
    """Return the head of `network` and the features that it trains on, computed where they are not kept.

    Args:
        network: With its trained weights, on the trial's device.
        images: The trial's batches.
        config: With `frozen: features`.
        dataset: The images.
        split: Features are computed of the images that train and validate, never of the test images.
        precision: Of the passes.
        cache_dir: Where features are kept for the other trials; None keeps them in memory.
    """
    assert isinstance(config.frozen, Features)
    fixed = config.model_copy(update={"seed": 0, "batch_size": BATCH_SIZE})
    source = Batches(
        dataset,
        split.train,
        config=fixed,
        device=images.device,
        precision=precision,
        statistics=(images.normalisation.mean, images.normalisation.std),
    )
    known = np.concatenate((split.train, split.val))
    key = _key(config, dataset, images, precision, known)

    def computed(draw: Callable[[], Iterable[Batch]]) -> NDArray[np.float16]:
        return _features(network, draw(), precision, images.device)

    clean = _kept(cache_dir, key, partial(computed, partial(source.evaluate, known)))
    train = clean[None, : len(split.train)]
    if config.frozen.views > 0:
        every = np.arange(len(split.train))
        # Some augmentations grow with the share of the epochs that are behind them.
        drawn = fingerprint(key, str(config.augment), config.data.flips, str(config.epochs))
        passes = []
        for view in range(config.frozen.views):
            compute = partial(computed, partial(source.train, every, view))
            passes.append(_kept(cache_dir, fingerprint(drawn, str(view)), compute))
        train = np.stack(passes)
    batches = FeatureBatches(images, train, known, clean, dataset.labels)
    return FrozenNetwork(network, config.backbone.drop_rate), batches


def _key(
    config: TrialConfig, dataset: ImageDataset, images: Batches, precision: Precision, known: NDArray[np.int64]
) -> str:
    """Return what names the features: data, network, weights, size, format and the images in question."""
    backbone = config.backbone.model_copy(update={"drop_rate": 0.0, "drop_path_rate": 0.0})
    file = locate_weights(config.backbone).path
    stat = file.stat()
    parts = (
        dataset.fingerprint,
        KERNELS,
        backbone.model_dump_json(),
        f"{file.name} {stat.st_size} {stat.st_mtime_ns}",
        str((images.image_size, images.normalisation, precision.name, images.device.type)),
        fingerprint(known.tobytes().hex()),
    )
    return fingerprint(*parts)


def _kept(cache_dir: Path | None, key: str, compute: Callable[[], NDArray[np.float16]]) -> NDArray[np.float16]:
    """Return the features kept under `key`; compute them, in one process at a time, where there are none.

    Where nothing can be kept, on a full disk or in a folder that may only be read, they are computed.
    """
    if cache_dir is None:
        return compute()
    path = cache_dir / "features" / f"{key}.npy"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path.with_suffix(".lock")))
        with contextlib.suppress(OSError):
            kept: NDArray[np.float16] = np.load(path, allow_pickle=False)
            return kept
        found = compute()
        with contextlib.suppress(CannotWrite):
            write_atomic(path, lambda file: np.save(file, found, allow_pickle=False))
        return found


@torch.inference_mode()
def _features(
    network: nn.Module, batches: Iterable[Batch], precision: Precision, device: torch.device
) -> NDArray[np.float16]:
    """Return `(N, D)`: what the classifier is fed with for each image."""
    taps, parts = Taps(network, pooled=True), []
    network.eval()
    with precision.autocast(device):
        for batch in batches:
            with taps.reading() as catch:
                network(batch.images)
            assert catch.pooled is not None
            parts.append(catch.pooled.clamp(-HALF_MAX, HALF_MAX).half().cpu())
    return torch.cat(parts).numpy()

"""Where a network comes from: timm, torchvision, or this package; and how one of any of them is built."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones._base import OPTIONS, Backbone
from trainable.backbones.anatomy import anatomy
from trainable.backbones.fusion import FusedNetwork
from trainable.backbones.network_source import NetworkSource
from trainable.backbones.stems import fit_stem
from trainable.backbones.timm_source import TimmSource
from trainable.backbones.torchvision_source import TorchvisionSource
from trainable.backbones.weights import read_weights

LARGEST_SIDE = 512
"""Of the images that are tried when the smallest size that works is looked for."""


USUAL = (224, 240, 256, 288, 299, 331, 384)
"""Sides that networks of one fixed size are made for."""


class Source(Protocol):
    """What answers to the names behind one prefix."""

    def check(self, config: Backbone) -> None:
        """Refuse a name that nothing answers to (`UsageError` with the nearest one)."""
        ...

    def accepts(self, config: Backbone, option: str) -> bool:
        """Return whether the network has a place for `drop_rate`, `drop_path_rate` or `attention`."""
        ...

    def make(
        self,
        config: Backbone,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        state: dict[str, Tensor] | None,
    ) -> nn.Module:
        """Return the network, with the trained weights `state` where there are any; its stem as published."""
        ...


SOURCES: dict[str, Source] = {
    "timm": TimmSource(),
    "torchvision": TorchvisionSource(),
    "tailtune": NetworkSource(),
}


def source_of(config: Backbone) -> Source:
    """Return the source of the network; one of ours needs no prefix.

    Raises:
        UsageError: If the name has a source that does not exist.
    """
    return SOURCES[config.source]


def accepts(config: Backbone, option: str) -> bool:
    """Return whether the network has a place for one of `OPTIONS`.

    Raises:
        UsageError: If its name is unknown.
    """
    source_of(config).check(config)
    return anatomy(config.name).fuses if option == "fusion" else source_of(config).accepts(config, option)


def check_options(config: Backbone) -> None:
    """Refuse an unknown name or tag, and an option that the model has no place for.

    Raises:
        UsageError: With the nearest name, or with the option that the model lacks.
    """
    source_of(config).check(config)
    for key, without in OPTIONS.items():
        if getattr(config, key) != without and not accepts(config, key):
            raise UsageError(
                f"backbone.{key} must be {without or 0} for {config.name}, which has no place for it, "
                f"got {getattr(config, key)}",
                f"drop `{key}`, or choose another backbone",
            )


def build(
    config: Backbone,
    num_classes: int,
    image_size: tuple[int, int],
    channels: int,
    *,
    load_trained: bool = True,
) -> nn.Module:
    """Return the network of `config`, fitted to the images (see `build_backbone`)."""
    check_options(config)
    with _quiet():
        state = read_weights(config) if config.trained and load_trained else None
        try:
            model = fitted(config, num_classes, image_size, channels, state)
            _try_one(model, image_size, channels)
        except TailtuneError:
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            raise _misfit(config, image_size, channels, error) from None
    return model.train()


def fitted(
    config: Backbone,
    num_classes: int,
    image_size: tuple[int, int],
    channels: int,
    state: dict[str, Tensor] | None,
) -> nn.Module:
    """Return the network with its stem fitted to the images, in training mode, on torch's default device."""
    model = source_of(config).make(config, num_classes, image_size, channels, state)
    fit_stem(model, config.name, config.stem, image_size, config.small_stem_up_to)
    if config.fusion == "none":
        return model
    return FusedNetwork(model, config.fusion, num_classes, anatomy(config.name).num_stages)


def _try_one(model: nn.Module, image_size: tuple[int, int], channels: int) -> None:
    """Send one blank image through, so that what does not fit is found here and not in mid-trial."""
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, *image_size))


def _misfit(config: Backbone, image_size: tuple[int, int], channels: int, error: Exception) -> TailtuneError:
    """Return the error for a network that one blank image does not pass."""
    height, width = image_size
    problem = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in problem:
        return TailtuneError(
            f"{config.name} must fit into memory, but does not: {problem}", "choose a smaller network"
        )
    law = f"{config.name} must take images of {height}x{width} pixels, but does not: {problem}"
    smallest = smallest_side(config, channels)
    if smallest is not None and smallest > min(image_size):
        return UsageError(
            f"{law}; the smallest that works is {smallest}x{smallest}",
            f"make the images larger (--image-size {smallest}x{smallest}), or choose another backbone",
        )
    sides = [smallest] if smallest is not None else [side for side in USUAL if _takes(config, side, channels)]
    works = f"; {sides[0]}x{sides[0]} works" if sides else ""
    other = f" ({sides[0]}x{sides[0]})" if sides else ""
    return UsageError(f"{law}{works}", f"take another --image-size{other}, or another backbone")


def smallest_side(config: Backbone, channels: int) -> int | None:
    """Return the side in pixels of the smallest square image that the network takes, found without memory.

    None where it takes no square up to `LARGEST_SIDE`. A larger square than one that works is taken to work.
    """
    low, high = 0, LARGEST_SIDE
    if not _takes(config, high, channels):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _takes(config, middle, channels):
            high = middle
        else:
            low = middle
    return high


def _takes(config: Backbone, side: int, channels: int) -> bool:
    try:
        with torch.device("meta"), _quiet():
            _try_one(fitted(config, 2, (side, side), channels, None), (side, side), channels)
    except (RuntimeError, AssertionError, ValueError, ZeroDivisionError):
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep timm's remarks (deprecated names, adapted layers) off the terminal."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

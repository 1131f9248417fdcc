"""Backbones from timm."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg, split_model_name_tag
from torch import Tensor, nn

from analysis.errors import TailtuneError, UsageError, unknown_name
from trainable.backbones._base import Backbone
from trainable.backbones.stems import fit_stem
from trainable.backbones.weights import read_weights


def build_timm(
    config: Backbone,
    num_classes: int,
    image_size: tuple[int, int],
    channels: int,
    *,
    load_trained: bool = True,
) -> nn.Module:
    """Return timm's model of that name with its stem fitted to `image_size` (see `build_backbone`)."""
    check_options(config)
    architecture = known_architecture(config)
    options: dict[str, Any] = {"in_chans": channels}
    options |= {
        key: getattr(config, key) for key in ("drop_rate", "drop_path_rate") if accepts(architecture, key)
    }
    if accepts(architecture, "img_size"):
        options["img_size"] = image_size
    with _quiet(), _explained(config, image_size):
        if config.trained and load_trained:
            model = _load(config, read_weights(config), num_classes, options)
        else:
            model = timm.create_model(config.model_name, num_classes=num_classes, **options)
        fit_stem(model, config.name, config.stem, image_size, config.small_stem_up_to)
        _try_one(model, image_size, channels)
    return model


def check_options(config: Backbone) -> None:
    """Refuse an unknown name or tag, and a rate that the model has no place for.

    Raises:
        UsageError: With the nearest name, or with the option that the model lacks.
    """
    architecture = known_architecture(config)
    for key in ("drop_rate", "drop_path_rate"):
        if getattr(config, key) > 0 and not accepts(architecture, key):
            raise UsageError(
                f"backbone.{key} must be 0 for {config.name}, which has no such option, "
                f"got {getattr(config, key)}",
                f"drop `{key}`, or choose another backbone",
            )


def known_architecture(config: Backbone) -> str:
    """Return the name without its tag.

    Raises:
        UsageError: If timm has no such model, or no such tag of it.
    """
    architecture, tag = split_model_name_tag(config.model_name)
    if not timm.is_model(architecture):
        raise unknown_name("backbone", architecture, timm.list_models())
    try:
        get_pretrained_cfg(config.model_name)
    except RuntimeError:
        tags = [
            split_model_name_tag(name)[1] for name in timm.list_models(f"{architecture}.*", pretrained=True)
        ]
        raise unknown_name(f"pretrained tag of {architecture}", tag, tags) from None
    return str(architecture)


@lru_cache(maxsize=4096)
def accepts(architecture: str, option: str) -> bool:
    """Return whether the constructor of `architecture` takes `option` (found out without any memory)."""
    trial = {"drop_rate": 0.1, "drop_path_rate": 0.1, "img_size": (224, 224)}[option]
    try:
        with _quiet(), torch.device("meta"):
            timm.create_model(architecture, **{option: trial})
    except TypeError as error:
        if option in str(error):
            return False
        raise
    return True


def _load(config: Backbone, state: dict[str, Tensor], num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Return the model with every weight of `state`, its head replaced where the classes differ.

    The model is made with the weights' own number of classes, so that timm's loading is strict and
    nothing but the head can be random afterwards.
    """
    metadata = get_pretrained_cfg(config.model_name)
    classes = _num_classes(state, metadata.classifier, metadata.num_classes)
    # timm subtracts a background class by itself only when `label_offset` says so; `classes` counts it.
    source = {"state_dict": state, "num_classes": classes, "label_offset": 0, "custom_load": False}
    try:
        model = timm.create_model(
            config.model_name, pretrained=True, pretrained_cfg_overlay=source, num_classes=classes, **options
        )
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise _misfit(config, state, classes, options, error) from None
    if classes != num_classes:
        model.reset_classifier(num_classes)
    return cast(nn.Module, model)


def _num_classes(state: dict[str, Tensor], classifier: Any, default: int) -> int:
    names = [classifier] if isinstance(classifier, str) else (classifier or ())
    # Checkpoints older than timm's present head modules call their last layer by its former name.
    for name in [*names, "fc", "classifier", "head"]:
        bias = state.get(f"{name}.bias")
        if bias is not None and bias.ndim == 1:
            return len(bias)
    return default


def _misfit(
    config: Backbone, state: dict[str, Tensor], classes: int, options: dict[str, Any], error: Exception
) -> TailtuneError:
    with torch.device("meta"):
        wanted = timm.create_model(config.model_name, num_classes=classes, **options).state_dict()
    matching = sum(key in state and state[key].shape == value.shape for key, value in wanted.items())
    if matching == len(wanted):
        return TailtuneError(f"backbone.weights: cannot be loaded into {config.name}: {str(error)[:200]}")
    return TailtuneError(
        f"backbone.weights must be of {config.name}, but {matching} of its {len(wanted)} tensors match "
        f"by name and shape ({len(state)} in the file)",
        "give the weights of this architecture, or the name of theirs",
    )


def _try_one(model: nn.Module, image_size: tuple[int, int], channels: int) -> None:
    """Send one blank image through, so that what does not fit is found here and not in mid-trial."""
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, *image_size))
    model.train()


@contextmanager
def _explained(config: Backbone, image_size: tuple[int, int]) -> Iterator[None]:
    try:
        yield
    except TailtuneError:
        raise
    except (RuntimeError, AssertionError, ValueError) as error:
        height, width = image_size
        problem = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UsageError(
            f"{config.name} must take images of {height}x{width} pixels, but does not: {problem}",
            "make the images larger (--image-size), or choose another backbone",
        ) from None


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

"""Backbones from timm."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg, split_model_name_tag
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from analysis.errors import TailtuneError, unknown_name
from trainable.backbones._base import Backbone
from trainable.backbones.channels import in_colour
from trainable.backbones.networks import ARCHITECTURES
from trainable.backbones.patches import fitted_grid, resampled
from trainable.backbones.torchvision_source import NAMES as TORCHVISION_NAMES

RATES = ("drop_rate", "drop_path_rate")


class TimmSource:
    """Every classifier of timm, with its pretrained tags (`convnext_base.fb_in22k`)."""

    def check(self, config: Backbone) -> None:
        """Refuse a name or tag that timm does not have."""
        _architecture(config)

    def accepts(self, config: Backbone, option: str) -> bool:
        """Return whether the constructor takes `option`."""
        return accepts(_architecture(config), option)

    def make(
        self,
        config: Backbone,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        state: dict[str, Tensor] | None,
    ) -> nn.Module:
        """Return timm's model; a transformer's grid of patches is fitted to the images."""
        architecture = _architecture(config)
        options: dict[str, Any] = {"in_chans": channels}
        options |= {key: getattr(config, key) for key in RATES if accepts(architecture, key)}
        if config.attention != "none":
            options["block_args"] = {"attn_layer": config.attention}
        if accepts(architecture, "img_size"):
            options["img_size"] = image_size
            options |= fitted_grid(model_class(architecture), config, image_size)
        if state is not None:
            return _load(config, state, num_classes, options)
        return cast(nn.Module, timm.create_model(config.model_name, num_classes=num_classes, **options))


def _architecture(config: Backbone) -> str:
    """Return the name without its tag.

    Raises:
        UsageError: If timm has no such model, or no such tag of it.
    """
    architecture, tag = split_model_name_tag(config.model_name)
    if not timm.is_model(architecture):
        ours = [example for ours in ARCHITECTURES for example in ours.examples]
        theirs = [f"torchvision:{name}" for name in TORCHVISION_NAMES]
        raise unknown_name("backbone", architecture, [*timm.list_models(), *ours, *theirs])
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
    if option == "attention":
        return _plain_resnet(architecture)
    trial = {"drop_rate": 0.1, "drop_path_rate": 0.1, "img_size": (224, 224)}[option]
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            timm.create_model(architecture, **{option: trial})
    except TypeError as error:
        if option in str(error):
            return False
        raise
    return True


def _plain_resnet(architecture: str) -> bool:
    """Return whether the blocks take an attention layer; those of ResNeSt or SKNet are attention themselves."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = timm.create_model(architecture)
    return isinstance(model, ResNet) and type(model.layer1[0]) in (BasicBlock, Bottleneck)


@lru_cache(maxsize=4096)
def model_class(architecture: str) -> str:
    """Return the name of the class that timm builds for `architecture`."""
    with torch.device("meta"):
        return type(timm.create_model(architecture)).__name__


def _load(config: Backbone, state: dict[str, Tensor], num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Return the model with every weight of `state`, its head replaced where the classes differ.

    The model is made with the weights' own number of classes, so that timm's loading is strict and
    nothing but the head can be random afterwards.
    """
    metadata = get_pretrained_cfg(config.model_name)
    classes = _num_classes(state, metadata.classifier, metadata.num_classes)
    state = resampled(state, model_class(_architecture(config)), options)
    if options["in_chans"] == 3 and isinstance(metadata.first_conv, str):
        state = in_colour(state, f"{metadata.first_conv}.weight")
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
        extra = sorted(set(state) - set(wanted))
        what = (
            f"{len(extra)} in the file are unknown to it ({extra[0]})" if extra else str(error).splitlines()[0]
        )
        return TailtuneError(
            f"backbone.weights must be of {config.name} alone, whose {len(wanted)} tensors it has, "
            f"but {what[:160]}",
            "save the plain network's state dict",
        )
    return TailtuneError(
        f"backbone.weights must be of {config.name}, but {matching} of its {len(wanted)} tensors match "
        f"by name and shape ({len(state)} in the file)",
        "give the weights of this architecture, or the name of theirs",
    )

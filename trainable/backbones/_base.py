"""What a backbone is: a name, where its weights come from, and how it is fitted to the images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from trainable.component import Component, Range


class Backbone(Component):
    """Config of a classifier network.

    `name` is timm's (`resnet18`, optionally `timm:resnet18` or with a pretrained tag
    `convnext_base.fb_in22k`); `torchvision:NAME` and our own names follow the same way.
    """

    name: Annotated[str, Field(min_length=1)] = "resnet18"
    pretrained: bool = False
    """Start from trained weights; where they cannot be had that is an error, never a random start."""
    weights: str | None = None
    """A file (safetensors, or a state dict that `torch.load(weights_only=True)` accepts) or a folder."""
    stem: Literal["auto", "original", "small"] = "auto"
    """`small`: stride 1 and no pool up to 32 px, stride 2 without pool up to 80 px. `auto`: small where
    the shorter side is at most 80 px and the family has such a stem."""
    drop_rate: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.0, 0.4)] = 0.0
    drop_path_rate: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.0, 0.3)] = 0.0


def build_backbone(config: Backbone, num_classes: int, image_size: tuple[int, int], channels: int) -> nn.Module:
    """Return the network of `config`: images `(B, channels, H, W)` to logits `(B, num_classes)`.

    Raises:
        UsageError: If the name is unknown, or trained weights were asked for and cannot be had.
    """
    from trainable.backbones.timm_source import build_timm

    return build_timm(config, num_classes, image_size, channels)

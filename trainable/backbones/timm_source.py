"""Backbones from timm."""

from __future__ import annotations

import timm
from torch import nn

from trainable.backbones._base import Backbone


def build_timm(config: Backbone, num_classes: int, image_size: tuple[int, int], channels: int) -> nn.Module:
    """Return timm's model of that name."""
    model: nn.Module = timm.create_model(
        config.name,
        pretrained=config.pretrained,
        num_classes=num_classes,
        in_chans=channels,
        drop_rate=config.drop_rate,
        drop_path_rate=config.drop_path_rate,
    )
    return model

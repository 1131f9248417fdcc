"""Backbones: classifiers by name, from timm and elsewhere, fitted to small images."""

from trainable.backbones._base import (
    RATES,
    Backbone,
    build_backbone,
    check_backbone,
    input_statistics,
    supports,
    supports_drop_path,
)
from trainable.backbones.cost import count_flops, count_parameters

__all__ = [
    "RATES",
    "Backbone",
    "build_backbone",
    "check_backbone",
    "count_flops",
    "count_parameters",
    "input_statistics",
    "supports",
    "supports_drop_path",
]

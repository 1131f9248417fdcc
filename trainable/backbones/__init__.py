"""Backbones: classifiers by name, from timm and elsewhere, fitted to small images."""

from trainable.backbones._base import (
    OPTIONS,
    Backbone,
    build_backbone,
    check_backbone,
    check_parts,
    check_weights,
    input_statistics,
    supports,
    supports_drop_path,
)
from trainable.backbones.cost import count_flops, count_parameters

__all__ = [
    "OPTIONS",
    "Backbone",
    "build_backbone",
    "check_backbone",
    "check_parts",
    "check_weights",
    "count_flops",
    "count_parameters",
    "input_statistics",
    "supports",
    "supports_drop_path",
]

"""Backbones: classifiers by name, from timm and elsewhere, fitted to small images."""

from trainable.backbones._base import Backbone, build_backbone

__all__ = ["Backbone", "build_backbone"]

"""What an optimizer is here: a config that builds a torch optimizer over parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from trainable.component import Component
from trainable.registry import Registry

ParamGroups = list[dict[str, Any]]


class Optimizer(Component, ABC):
    """Config of an optimizer. Each has `lr` and `weight_decay`; ranges are the subclass's own."""

    name: str
    lr: Annotated[float, Field(gt=0.0, le=100.0)] = 1e-3
    """Peak learning rate; the schedule multiplies it by a factor in [0, 1]."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Decay of weights; norms and biases are spared."""

    @abstractmethod
    def build(self, groups: ParamGroups) -> torch.optim.Optimizer:
        """Return the optimizer over `groups` (from `parameter_groups`), with `lr` set in each."""


def parameter_groups(model: nn.Module, weight_decay: float) -> ParamGroups:
    """Return two groups: weights with `weight_decay`, and norms, biases and other vectors without.

    Parameters that do not require gradients are left out.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    spared = [p for p in trained if p.ndim <= 1]
    groups = [(decayed, weight_decay), (spared, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer)

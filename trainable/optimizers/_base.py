"""What an optimizer is here: a config that builds a torch optimizer over parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

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


def set_lr(optimizer: torch.optim.Optimizer, lr: float, momentum: float | None = None) -> None:
    """Set the learning rate of every group, and its momentum or first beta where `momentum` is given.

    An optimizer without momentum, or with a momentum of 0, is left without: a schedule that cycles
    momentum does not switch it on.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
        if momentum is None:
            continue
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        elif group.get("momentum", 0.0) > 0.0:
            group["momentum"] = momentum


class SharpnessAware(torch.optim.Optimizer):
    """Sharpness-aware minimisation around a base optimizer: climb, look at the gradient there, step from below.

    A step is: backward → `perturb()` → `zero_grad()` → backward (batch-norm statistics held, see
    `held_batch_norm`) → `restore()` → clip → `step()`. The climb depends on the gradient's direction
    only, so gradients that a loss scaler has multiplied may be used as they are; where they overflowed,
    the second ones do as well, and the scaler skips the step after `restore()` has put the weights back.

    The parameter groups and the state are the base optimizer's own, so is the `state_dict`.

    Args:
        base: Takes the step.
        rho: Radius of the climb, > 0.
        adaptive: Measure the radius relative to each weight's magnitude (ASAM).
        eta: Added to that magnitude, so that a weight of 0 can move.

    Reference: Foret et al. 2021, arXiv 2010.01412, equation 2; Kwon et al. 2021, arXiv 2102.11600, equation 5.
    """

    def __init__(
        self, base: torch.optim.Optimizer, rho: float, *, adaptive: bool = False, eta: float = 0.01
    ) -> None:
        super().__init__(base.param_groups, dict(base.defaults))
        self.base, self.rho, self.adaptive, self.eta = base, rho, adaptive, eta
        self._share_state()
        self._climbed: list[Tensor] = []
        self._before: list[Tensor] = []

    def _share_state(self) -> None:
        self.param_groups, self.state = self.base.param_groups, self.base.state

    @torch.no_grad()
    def perturb(self) -> None:
        """Climb to w + rho·g/|g|, with |g| over all parameters that have a gradient; gradients are left."""
        assert not self._before, "perturb() twice without restore()"
        self._climbed = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not self._climbed:
            return
        self._before = [p.clone() for p in self._climbed]
        gradients = [p.grad for p in self._climbed if p.grad is not None]
        # ASAM measures in weights divided by their magnitude: once in the norm, once on the way back.
        scale = [p.abs() + self.eta for p in self._climbed] if self.adaptive else None
        measured = gradients if scale is None else torch._foreach_mul(gradients, scale)
        climb = measured if scale is None else torch._foreach_mul(measured, scale)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(measured)))
        # Where every gradient is 0 the climb is 0, not NaN.
        factor = self.rho / norm.clamp_min(1e-12)
        torch._foreach_add_(self._climbed, torch._foreach_mul(climb, factor))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back to what they were before `perturb`, bit for bit."""
        if self._before:
            torch._foreach_copy_(self._climbed, self._before)
        self._climbed, self._before = [], []

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Take the base optimizer's step with the gradients present."""
        assert not self._before, "step() before restore()"
        return self.base.step(closure) if closure is not None else self.base.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the base optimizer's state; between `perturb` and `restore` there is none to save."""
        assert not self._before, "state_dict() before restore()"
        return self.base.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give the base optimizer its state back."""
        self.base.load_state_dict(state_dict)
        self._share_state()


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer)

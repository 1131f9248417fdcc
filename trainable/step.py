"""One optimizer step: micro-batches, mixed targets, class weights, scaler, sharpness-aware ascent, clipping."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainable.losses import LossFunction
from trainable.mixing import Mixed
from trainable.optimizers import SharpnessAware, held_batch_norm
from trainable.precision import Precision


class StepResult(NamedTuple):
    """What a step leaves for the books, detached and on the device, so that nothing waits for it.

    Attributes:
        loss: The batch's loss before the step, a scalar.
        per_image: Loss of each image against its own target, unweighted, `(B,)`.
    """

    loss: Tensor
    per_image: Tensor


class Stepper:
    """Takes optimizer steps on one model.

    Args:
        model: Images `(B, C, H, W)` to logits `(B, K)`.
        loss: Per-image losses and their reduction.
        optimizer: Over the model's parameters; a `SharpnessAware` one gets its second pass.
        precision: The number format of forward passes.
        accumulate: Micro-batches that a batch is cut into.
        clip_norm: Largest global gradient norm, or None.
        mixes: Whether batches may have partners; without, half of the losses is saved.
        device: Where everything lives.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        *,
        accumulate: int,
        clip_norm: float | None,
        mixes: bool,
        device: torch.device,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.precision, self.accumulate, self.clip_norm, self.device = precision, accumulate, clip_norm, device
        self.mixes = mixes
        self.scaler = precision.scaler(device)
        self.class_weights: Tensor | None = None

    def __call__(self, batch: Mixed) -> StepResult:
        """Step on `batch`."""
        self.optimizer.zero_grad(set_to_none=True)
        result = self._backward(batch)
        if isinstance(self.optimizer, SharpnessAware):
            self.optimizer.perturb()
            self.optimizer.zero_grad(set_to_none=True)
            with held_batch_norm(self.model):
                self._backward(batch)
            self.optimizer.restore()
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return result

    def _backward(self, batch: Mixed) -> StepResult:
        """Add the gradients of the batch's mean loss, micro-batch by micro-batch."""
        total = torch.zeros((), device=self.device)
        per_image: list[Tensor] = []
        for part in zip(*(field.chunk(self.accumulate) for field in batch), strict=True):
            micro = Mixed(*part)
            loss, values = self._losses(micro)
            share = len(micro.targets) / len(batch.targets)
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * share
            per_image.append(values.detach())
        return StepResult(total, torch.cat(per_image))

    def _losses(self, batch: Mixed) -> StepResult:
        """Return the reduced λ·L(a) + (1-λ)·L(b), each image weighted by its target's class, and L(a)."""
        with self.precision.autocast(self.device):
            logits = self.model(batch.images)
        own: Tensor = self.loss(logits, batch.targets)
        mixed = batch.share * self._weighted(own, batch.targets)
        if self.mixes:
            partner = self.loss(logits, batch.partners)
            mixed = mixed + (1.0 - batch.share) * self._weighted(partner, batch.partners)
        return StepResult(self.loss.reduce(mixed), own)

    def _weighted(self, values: Tensor, targets: Tensor) -> Tensor:
        return values if self.class_weights is None else values * self.class_weights[targets]

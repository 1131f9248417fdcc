"""One optimizer step: micro-batches, mixed targets, class weights, scaler, sharpness-aware ascent, clipping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError
from trainable.graphs import GraphedForward
from trainable.losses import LossFunction
from trainable.mixing import Mixed
from trainable.optimizers import SharpnessAware, held_batch_norm
from trainable.precision import Precision
from trainable.techniques import Seen
from trainable.terms import Terms


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
        accumulate: Micro-batches that a batch is cut into; twice as many, for good, each time that one of them
            does not fit into the device's memory. The batch that a step sees stays the same.
        clip_norm: Largest global gradient norm, or None.
        mixes: Whether batches may have partners; without, half of the losses is saved.
        terms: What techniques add to the loss; None adds nothing.
        device: Where everything lives.
        forward: The same model compiled; None takes it as it is.
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
        terms: Terms | None = None,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.precision, self.accumulate, self.clip_norm, self.device = precision, accumulate, clip_norm, device
        self.mixes, self.forward = mixes, model if forward is None else forward
        self.scaler = precision.scaler(device)
        self.class_weights: Tensor | None = None
        self.terms = terms or Terms.none(model)
        self._clipped = [*model.parameters(), *self.terms.modules.parameters()]

    def __call__(self, batch: Mixed) -> StepResult:
        """Step on `batch`."""
        result = self._fitting_gradients(batch)
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._clipped, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return result

    def _fitting_gradients(self, batch: Mixed) -> StepResult:
        """Leave the gradients of the step, in parts as small as the device's memory demands.

        What a pass that did not fit has told batch norm's running statistics stays there; they forget.

        Raises:
            TailtuneError: If not even two images fit.
        """
        while True:
            try:
                return self._gradients(batch)
            except torch.OutOfMemoryError as error:
                recorded = isinstance(self.forward, GraphedForward) and self.forward.recorded
                if not recorded and self.accumulate >= len(batch.targets) // 2:
                    reason = str(error).splitlines()[0][:160]
                    raise TailtuneError(
                        f"a pass of two images must fit into the device's memory: {reason}",
                        "give each trial more of it (--gpus-per-trial), or take smaller images or networks",
                    ) from None
                if not recorded:  # else what the recording keeps may be all that was missing
                    self.accumulate = max(2, 2 * self.accumulate)
            # Only here: while the error lives, its frames hold the tensors of the pass.
            if isinstance(self.forward, GraphedForward):
                self.forward.give_up("the memory did not suffice")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _gradients(self, batch: Mixed) -> StepResult:
        """Leave the gradients of the step; a sharpness-aware one looks at them twice."""
        self.optimizer.zero_grad(set_to_none=True)
        result = self._backward(batch)
        if isinstance(self.optimizer, SharpnessAware):
            self.optimizer.perturb()
            try:
                self.optimizer.zero_grad(set_to_none=True)
                with held_batch_norm(self.model):
                    self._backward(batch)
            finally:
                self.optimizer.restore()
        return result

    def _backward(self, batch: Mixed) -> StepResult:
        """Add the gradients of the batch's mean loss, micro-batch by micro-batch."""
        total = torch.zeros((), device=self.device)
        per_image: list[Tensor] = []
        for micro in self._micro_batches(batch):
            loss, values = self._losses(micro)
            share = len(micro.targets) / len(batch.targets)
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]  # torch's has no types
            total += loss.detach() * share
            per_image.append(values.detach())
        return StepResult(total, torch.cat(per_image))

    def _micro_batches(self, batch: Mixed) -> Iterator[Mixed]:
        """Yield the batch in `accumulate` parts, or fewer: batch norm has no variance on a single image."""
        *fields, views = batch
        count = max(1, min(self.accumulate, len(batch.targets) // 2))
        parts = zip(*(field.tensor_split(count) for field in fields), strict=True)
        further = repeat(None) if views is None else iter(views.tensor_split(count))
        for part in parts:
            yield Mixed(*part)._replace(views=next(further))

    def _losses(self, batch: Mixed) -> StepResult:
        """Return the reduced λ·L(a) + (1-λ)·L(b), each image weighted by its target's class, and L(a)."""
        seen = self._forward(batch)
        own: Tensor = self.loss(seen.logits, batch.targets)
        total = self._mixed(own, seen.logits, batch)
        for term in self.terms.modules:
            total = term(total, seen, batch, lambda z: self._mixed(self.loss(z, batch.targets), z, batch))
        return StepResult(self.loss.reduce(total), own)

    def _forward(self, batch: Mixed) -> Seen:
        """Show the network the batch, and its further views where they are compared, all at once."""
        size, views = len(batch.targets), batch.views if self.terms.sees_views else None
        images = batch.images
        if views is not None:
            images = torch.cat((images, *views.unbind(1))).contiguous(
                memory_format=self.precision.memory_format
            )
        with self.precision.autocast(self.device), self.terms.taps.reading() as catch:
            logits = self.forward(images)
        return Seen(
            logits=logits[:size],
            view_logits=None if views is None else logits[size:].unflatten(0, (-1, size)).transpose(0, 1),
            stages=tuple(catch.stages[number][:size] for number in range(len(catch.stages))),
            pooled=None if catch.pooled is None else catch.pooled[:size],
        )

    def _mixed(self, own: Tensor, logits: Tensor, batch: Mixed) -> Tensor:
        """Return λ·L(a) + (1-λ)·L(b) of each image, weighted by class, from L(a) and the logits."""
        mixed = batch.share * self._weighted(own, batch.targets)
        if self.mixes:
            partner = self.loss(logits, batch.partners)
            mixed = mixed + (1.0 - batch.share) * self._weighted(partner, batch.partners)
        return mixed

    def _weighted(self, values: Tensor, targets: Tensor) -> Tensor:
        return values if self.class_weights is None else values * self.class_weights[targets]

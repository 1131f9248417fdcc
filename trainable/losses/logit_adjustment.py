"""Logit adjustment: the prior is added to the logits in training, so that the model learns without it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainable.component import Range
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction


@LOSSES.add
class LogitAdjustment(Loss):
    """Cross-entropy of z + τ log π, π being the class prior; predictions use z alone.

    Suggested: τ = 1, which is consistent for the balanced error; validation may prefer 0.5 to 1.5. π is the
    batch sampler's *effective* prior, epoch by epoch, so that under balanced sampling there is nothing left
    to adjust. Deviation: a class without training images counts as half an image (its logarithm would
    be −∞). Caution: post-hoc adjustment on top of this corrects twice.
    """

    name: Literal["logit_adjustment"] = "logit_adjustment"
    reference: ClassVar[str] = "Menon et al. 2021, arXiv 2007.07314, section 4.2 (logit adjusted loss)"
    corrects_imbalance: ClassVar[bool] = True
    tau: Annotated[float, Field(ge=0.0, le=10.0), Range(0.5, 2.0)] = 1.0
    """Strength; 0 is cross-entropy."""

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss for the prior in `context`."""
        return LogitAdjustedLoss(self.tau, context)


class LogitAdjustedLoss(LossFunction):
    """L = −log softmax(z + τ log π)_y.

    Args:
        tau: τ, at least 0.
        context: Its prior holds until an epoch starts with another one.
    """

    offsets: Tensor

    def __init__(self, tau: float, context: LossContext) -> None:
        super().__init__()
        self.tau = tau
        self.smallest = 0.5 / float(context.class_counts.sum())
        self.register_buffer("offsets", self._offsets(context.class_prior), persistent=False)

    def _offsets(self, class_prior: NDArray[np.float64]) -> Tensor:
        """Return τ log π, `(C,)` float32."""
        return torch.as_tensor(self.tau * np.log(np.maximum(class_prior, self.smallest)), dtype=torch.float32)

    def start_epoch(self, epoch: int, class_prior: NDArray[np.float64] | None = None) -> None:
        """Take the prior of the epoch that begins."""
        if class_prior is not None:
            self.offsets.copy_(self._offsets(class_prior))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        return functional.cross_entropy(logits.float() + self.offsets, targets, reduction="none")

"""Focal loss: easy images count less."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from trainable.component import Range
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction

SMALLEST_ERROR = 1e-8
"""Below it 1−p counts as this much: a power below 1 would else have an infinite slope at p = 1."""


@LOSSES.add
class Focal(Loss):
    """Cross-entropy times (1−p)^γ, p being the probability of the target class.

    Suggested: γ = 2, as in the paper; 0.5 to 1 where labels are noisy, because a mislabelled image is
    always a hard one. Combine with class weights for the paper's α. Deviation: the paper's detector has
    a sigmoid for each class; here p comes from a softmax over the classes.
    """

    name: Literal["focal"] = "focal"
    reference: ClassVar[str] = "Lin et al. 2017, arXiv 1708.02002, equation 4"
    gamma: Annotated[float, Field(ge=0.0, le=20.0), Range(0.5, 4.0)] = 2.0
    """Focusing exponent; 0 is cross-entropy."""

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss; the data do not matter."""
        return FocalLoss(self.gamma)


class FocalLoss(LossFunction):
    """L = −(1−p_y)^γ log p_y."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        cross_entropy = functional.cross_entropy(logits.float(), targets, reduction="none")
        error = -torch.expm1(-cross_entropy)
        return error.clamp(min=SMALLEST_ERROR) ** self.gamma * cross_entropy

"""Balanced softmax."""

from __future__ import annotations

from typing import ClassVar, Literal

from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction
from trainable.losses.logit_adjustment import LogitAdjustedLoss


@LOSSES.add
class BalancedSoftmax(Loss):
    """Cross-entropy under a softmax whose terms are weighted by class frequency, n_j·exp(z_j).

    A strong default for long tails: no parameter, natural sampling, no class weights. It is logit adjustment
    with τ = 1. Deviation: where a batch sampler changes the frequencies, its effective ones are taken
    instead of the counts n (equal under natural sampling); the paper's meta-learned sampler is left out.
    """

    name: Literal["balanced_softmax"] = "balanced_softmax"
    reference: ClassVar[str] = "Ren et al. 2020, arXiv 2007.10740, theorem 1"
    corrects_imbalance: ClassVar[bool] = True

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss for the prior in `context`."""
        return LogitAdjustedLoss(1.0, context)

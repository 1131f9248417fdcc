"""Class-balanced loss: cross-entropy or focal loss, weighted by the effective number of images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from trainable.class_weights.effective_number import EffectiveNumber
from trainable.component import Choices, Dimension, Range, Suggester
from trainable.losses._base import LOSSES, Loss, LossContext, LossFunction
from trainable.losses.cross_entropy import CrossEntropyLoss
from trainable.losses.focal import FocalLoss


@LOSSES.add
class ClassBalanced(Loss):
    """A base loss times (1−β)/(1−β^n), n being the target's class count; mean weight 1 over the classes.

    Suggested: β = 0.999 or 0.9999, γ = 1 or 2 with the focal base. The same as `effective_number` class
    weights on the base loss: those can be deferred, this one works from the first epoch. It takes no class
    weights beside its own. Deviations: the paper's sigmoid variants are left out, and the focal base is a
    softmax one; a class without images weighs 0.
    """

    name: Literal["class_balanced"] = "class_balanced"
    reference: ClassVar[str] = "Cui et al. 2019, arXiv 1901.05555, sections 4.1 and 4.3"
    corrects_imbalance: ClassVar[bool] = True
    accepts_class_weights: ClassVar[bool] = False
    base: Annotated[Literal["ce", "focal"], Choices(("ce", "focal"))] = "ce"
    """The weighted loss: cross-entropy, or focal loss with exponent `gamma`."""
    beta: Annotated[float, Field(ge=0.0, lt=1.0), Choices((0.9, 0.99, 0.999, 0.9999))] = 0.999
    """0 weighs all classes alike; towards 1 the weights become inverse frequencies."""
    gamma: Annotated[float, Field(ge=0.0, le=20.0), Range(0.5, 2.0)] = 1.0
    """Focusing exponent of the focal base; without effect on the other."""

    @classmethod
    def suggest(cls, trial: Suggester, prefix: str, dimensions: Mapping[str, Dimension] | None = None) -> Self:
        """As `Component.suggest`, but `gamma` is asked for only where the base has one."""
        wanted = dict(cls.dimensions() if dimensions is None else dimensions)
        order = sorted(wanted, key=lambda key: key != "base")
        drawn: dict[str, object] = {}
        for key in order:
            if key != "gamma" or drawn.get("base", cls.model_fields["base"].default) == "focal":
                drawn[key] = wanted[key].draw(trial, f"{prefix}.{key}")
        return cls.model_validate(drawn)

    def build(self, context: LossContext) -> LossFunction:
        """Return the loss with weights from `context.class_counts`."""
        base = FocalLoss(self.gamma) if self.base == "focal" else CrossEntropyLoss()
        return ClassBalancedLoss(base, EffectiveNumber(beta=self.beta).build(context.class_counts))


class ClassBalancedLoss(LossFunction):
    """L = w_y L_base."""

    weights: Tensor

    def __init__(self, base: LossFunction, weights: NDArray[np.float64]) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float32), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return `(B,)` losses."""
        values: Tensor = self.base(logits, targets)
        return self.weights[targets] * values

"""Supervised contrastive term on the pooled features."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from trainable.component import Choices, Range
from trainable.mixing import Mixed
from trainable.techniques._base import Criterion, Seen, Technique, Term, TermContext, switchable

CONTRASTIVE = switchable("contrastive")


@CONTRASTIVE.add
class Supervised(Technique):
    """Images of one class are pulled together, and away from the others, on the unit sphere of a projection.

    Suggested: temperature 0.1, weight 0.1 to 1. Cautions: an image whose class has no other in the batch
    adds nothing, so rare classes gain only under a batch sampler that draws them often or with large
    batches; with `accumulate` above 1, images are compared within their micro-batch. Deviations: trained
    together with the classifier instead of before it; one view an image instead of two; under Mixup and
    CutMix the term is λ of the term for the images' classes plus 1 − λ of that for their partners'.
    """

    name: Literal["supervised"] = "supervised"
    reference: ClassVar[str] = "Khosla et al. 2020, arXiv 2004.11362, equation 2"
    weight: Annotated[float, Field(gt=0.0, le=100.0), Range(0.05, 1.0, log=True)] = 0.3
    temperature: Annotated[float, Field(gt=0.0, le=10.0), Range(0.05, 0.5, log=True)] = 0.1
    width: Annotated[int, Field(ge=2, le=4096), Choices((128,))] = 128
    """Dimensions of the projection."""

    def build_term(self, context: TermContext) -> Term:
        """Return the projection head and its loss."""
        return ContrastiveTerm(context.pooled_width, self)


class ContrastiveTerm(Term):
    """A projection (linear, ReLU, linear) and the loss on it."""

    def __init__(self, features: int, config: Supervised) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, config.width)
        )

    def forward(self, total: Tensor, seen: Seen, batch: Mixed, criterion: Criterion) -> Tensor:
        """Return `total` plus the weighted term."""
        assert seen.pooled is not None
        z = F.normalize(self.projection(seen.pooled), dim=1)
        own = supervised_contrast(z, batch.targets, self.config.temperature)
        partner = supervised_contrast(z, batch.partners, self.config.temperature)
        return total + self.config.weight * (batch.share * own + (1.0 - batch.share) * partner)


def supervised_contrast(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return L_out of each image, `(B,)`: 0 where no other image has its label.

    Args:
        z: Unit vectors `(B, D)`.
        labels: `(B,)`.
        temperature: τ, above 0.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    # Not -inf: in a batch of one image nothing would be left to sum over.
    similarity = (z @ z.T / temperature).masked_fill(itself, -1e9)
    log_share = similarity - similarity.logsumexp(dim=1, keepdim=True)
    positive = (labels[:, None] == labels) & ~itself
    return -(log_share * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)

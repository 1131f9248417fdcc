"""Deep supervision: auxiliary classifiers on intermediate stages."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from trainable.component import Choices, Range
from trainable.mixing import Mixed
from trainable.techniques._base import Criterion, Seen, Technique, Term, TermContext, switchable

DEEP_SUPERVISION = switchable("deep_supervision")


@DEEP_SUPERVISION.add
class Stages(Technique):
    """The loss of `auxiliary` further heads, one a stage before the last, each times `weight`.

    A head is the stage's spatial mean, layer norm and a linear layer. Each takes the trial's own loss, class
    weights and mixing included. Evaluation, predictions and saved weights know the main head alone.
    Suggested: 3 heads at 0.3. Deviation: the paper's heads are SVMs with their own margins.
    """

    name: Literal["stages"] = "stages"
    reference: ClassVar[str] = "Lee et al. 2015, arXiv 1409.5185, equation 3"
    auxiliary: Annotated[int, Field(ge=1, le=8), Choices((1, 2, 3))] = 3
    """How many stages before the last have a head."""
    weight: Annotated[float, Field(gt=0.0, le=10.0), Range(0.1, 0.5)] = 0.3
    """Of each auxiliary head's loss; the main head's is 1."""

    def build_term(self, context: TermContext) -> Term:
        """Return the heads."""
        return AuxiliaryHeads(context.stage_widths, context.num_classes, self.weight)


class AuxiliaryHeads(Term):
    """A head for each stage.

    Args:
        widths: Channels of each stage.
        num_classes: K.
        weight: Of each head's loss.
    """

    def __init__(self, widths: tuple[int, ...], num_classes: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes)) for width in widths
        )

    def forward(self, total: Tensor, seen: Seen, batch: Mixed, criterion: Criterion) -> Tensor:
        """Return `total` plus the weighted losses of the heads."""
        for head, features in zip(self.heads, seen.stages, strict=True):
            total = total + self.weight * criterion(head(features))
        return total

"""AugMix's consistency loss; `augmix.consistency` switches it on."""

from __future__ import annotations

import torch
from torch import Tensor

from trainable.mixing import Mixed
from trainable.techniques._base import Criterion, Seen, Term


class ConsistencyTerm(Term):
    """The network should say the same of an image and of its augmented views.

    Reference: Hendrycks et al. 2019, arXiv 1912.02781, equation 2.

    Args:
        weight: λ of the paper (12 there).
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, total: Tensor, seen: Seen, batch: Mixed, criterion: Criterion) -> Tensor:
        """Return `total` plus the weighted divergence."""
        assert seen.view_logits is not None
        return total + self.weight * jensen_shannon(torch.cat((seen.logits[:, None], seen.view_logits), dim=1))


def jensen_shannon(logits: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence `(B,)`, in nats, between the views of `logits` `(B, V, K)`."""
    log_p = logits.float().log_softmax(dim=2)
    p = log_p.exp()
    # The paper's own code clamps the mean as well: its logarithm would be infinite for a class at 0.
    log_mean = p.mean(dim=1, keepdim=True).clamp(min=1e-7).log()
    return (p * (log_p - log_mean)).sum(dim=2).mean(dim=1)

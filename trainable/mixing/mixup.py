"""Mixup."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.component import Choices, Range
from trainable.mixing._base import MIXING, Mixed, Mixing, Pairs


@MIXING.add
class Mixup(Mixing):
    """λ times an image plus 1 − λ times another one, λ drawn from Beta(alpha, alpha).

    Suggested: alpha 0.1 to 0.4 on ImageNet-sized problems, 1 on CIFAR. A rare image's partner is nearly
    always a frequent one, so strong mixing may cost rare classes recall.
    """

    name: Literal["mixup"] = "mixup"
    reference: ClassVar[str] = "Zhang et al. 2018, arXiv 1710.09412, equation 1"
    alpha: Annotated[float, Field(ge=0.05, le=100.0), Range(0.1, 1.0)] = 0.2
    p: Annotated[float, Field(ge=0.0, le=1.0), Range(0.25, 1.0)] = 1.0
    """Probability that a batch (or an image, with `per_sample`) is mixed at all."""
    per_sample: Annotated[bool, Choices((False, True))] = False
    """Draw λ for each image instead of once for the batch."""

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Mixed:
        """Mix normalised images `(B, C, H, W)` and targets `(B,)`; `generator` lives on their device."""
        pairs = Pairs(images, targets, generator, per_sample=self.per_sample)
        share = pairs.beta(self.alpha)
        share = torch.where(pairs.uniform() < self.p, share, 1.0)
        return pairs.mixed(blend(pairs, share), share)


def blend(pairs: Pairs, share: Tensor) -> Tensor:
    """Return `share` `(D,)` times each image plus the rest of its partner; exactly the image where it is 1."""
    partners = pairs.images[pairs.partner]  # a copy, in whose memory the blend is made
    return partners.lerp_(pairs.images, share.to(partners.dtype).view(-1, 1, 1, 1))

"""AugMix: several chains of weak operations, mixed with each other and with the image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, AugmentOp, Draw, ImageOp, RareBoost
from trainable.augment.operations import (
    COLOUR_SPACE,
    GEOMETRIC_SPACE,
    Magnitudes,
    applied,
    on_device,
    random_signs,
)
from trainable.component import Choices, Range

_SPACE = {
    **GEOMETRIC_SPACE,
    "translate_x": Magnitudes(0.0, 1 / 3, signed=True),
    "translate_y": Magnitudes(0.0, 1 / 3, signed=True),
    "posterize": Magnitudes(4.0, 0.0),
    **{name: COLOUR_SPACE[name] for name in ("solarize", "auto_contrast", "equalize")},
}
_NAMES = tuple(_SPACE)


@AUGMENT.add
class AugMix(RareBoost, ImageOp):
    """Mix `width` chains of one to three operations (or `depth`) with Dirichlet and Beta weights of `alpha`.

    The paper's nine operations, which leave out those that its robustness benchmark tests. With
    `consistency` above 0 the whole method: the trial's loss is taken on the image without AugMix, and two
    views with it are to be answered alike (Jensen-Shannon divergence, a third the speed). A boost for rare
    classes raises the strength of the operations. Deviation: each view has its own crops and flips as well.
    """

    reference: ClassVar[str] = "Hendrycks et al. 2019, arXiv 1912.02781, algorithm 1"
    name: Literal["augmix"] = "augmix"
    severity: Annotated[int, Field(ge=1, le=10), Range(1, 5)] = 3
    """Operations have strengths uniform in [0.01, severity / 10]."""
    width: Annotated[int, Field(ge=1, le=10)] = 3
    depth: Annotated[int, Field(ge=1, le=10)] | None = None
    """Operations in a chain; None draws one to three for each image and chain."""
    alpha: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    consistency: Annotated[float, Field(ge=0.0, le=100.0), Choices((0.0, 12.0))] = 0.0
    """Weight of the consistency loss, 12 in the paper; 0 leaves it out."""

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the mixtures."""
        rng = draw.host_rng()
        chains = rng.dirichlet(np.full(self.width, self.alpha), size=draw.batch_size)
        share = rng.beta(self.alpha, self.alpha, size=draw.batch_size)[:, None]
        weights = on_device(np.concatenate((share, (1.0 - share) * chains), axis=1), draw.device)
        ends = self._chains(images.repeat(self.width, 1, 1, 1), draw, rng)
        parts = torch.cat((images[None], ends.view(self.width, *images.shape)))
        return torch.einsum("kbchw,bk->bchw", parts, weights)

    def _chains(self, images: Tensor, draw: Draw, rng: np.random.Generator) -> Tensor:
        """Return `(width * B, C, H, W)` ends of chains; all chains take a step at once."""
        count = self.width * draw.batch_size
        depths = np.full(count, self.depth) if self.depth else rng.integers(1, 4, size=count)
        boost = self.boosted(1.0, draw).repeat(self.width)
        for number in range(int(depths.max())):
            chosen = np.array(_NAMES)[rng.integers(len(_NAMES), size=count)]
            names = np.where(depths > number, chosen, "identity").tolist()
            strengths = on_device(rng.uniform(0.1, self.severity, count) / 10, draw.device)
            signs = random_signs(rng, count, draw.device)
            images = applied(images, names, (strengths * boost).clamp(max=1.0), signs, _SPACE)
        return images


def consistency_weight(ops: Iterable[AugmentOp]) -> float:
    """Return the weight of the consistency loss among `ops`; 0 without AugMix."""
    return next((op.consistency for op in ops if isinstance(op, AugMix)), 0.0)

"""AugMix: several chains of weak operations, mixed with each other and with the image."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Draw, ImageOp, RareBoost
from trainable.augment.operations import (
    COLOUR_SPACE,
    GEOMETRIC_SPACE,
    Magnitudes,
    applied,
    on_device,
    random_signs,
)
from trainable.component import Range

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

    The paper's nine operations, which leave out those that its robustness benchmark tests. Only the image
    part of the method: its Jensen-Shannon consistency loss, for which each image is seen three times, is
    not part of this operation. A boost for rare classes raises the strength of the operations.
    """

    reference: ClassVar[str] = "Hendrycks et al. 2019, arXiv 1912.02781, algorithm 1"
    name: Literal["augmix"] = "augmix"
    severity: Annotated[int, Field(ge=1, le=10), Range(1, 5)] = 3
    """Operations have strengths uniform in [0.01, severity / 10]."""
    width: Annotated[int, Field(ge=1, le=10)] = 3
    depth: Annotated[int, Field(ge=1, le=10)] | None = None
    """Operations in a chain; None draws one to three for each image and chain."""
    alpha: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0

    def apply(self, images: Tensor, draw: Draw) -> Tensor:
        """Return the mixtures."""
        rng = draw.host_rng()
        chains = rng.dirichlet(np.full(self.width, self.alpha), size=draw.batch_size)
        share = rng.beta(self.alpha, self.alpha, size=draw.batch_size)[:, None]
        weights = on_device(np.concatenate((share, (1.0 - share) * chains), axis=1), draw.device)
        parts = [images, *(self._chain(images.clone(), draw, rng) for _ in range(self.width))]
        return torch.einsum("kbchw,bk->bchw", torch.stack(parts), weights)

    def _chain(self, images: Tensor, draw: Draw, rng: np.random.Generator) -> Tensor:
        depths = rng.integers(1, 4, size=draw.batch_size)
        for number in range(self.depth or 3):
            chosen = np.array(_NAMES)[rng.integers(len(_NAMES), size=draw.batch_size)]
            acts = np.full(draw.batch_size, True) if self.depth else depths > number
            names = np.where(acts, chosen, "identity").tolist()
            strengths = on_device(rng.uniform(0.1, self.severity, draw.batch_size) / 10, draw.device)
            strengths = (strengths * self.boosted(1.0, draw)).clamp(max=1.0)
            signs = random_signs(rng, draw.batch_size, draw.device)
            images = applied(images, names, strengths, signs, _SPACE)
        return images

"""No mixing."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainable.mixing._base import MIXING, Mixed, Mixing


@MIXING.add
class NoMixing(Mixing):
    """Every image stays itself."""

    name: Literal["none"] = "none"

    def apply(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> Mixed:
        """Return the batch unmixed."""
        return Mixed.unmixed(images, targets)

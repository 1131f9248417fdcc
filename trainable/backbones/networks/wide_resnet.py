"""Wide residual networks."""

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


class Block(nn.Module):
    """BN, ReLU, 3x3, BN, ReLU, dropout, 3x3; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.act = nn.ReLU()
        self.drop_path = DropPath(drop_path)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, features: Tensor) -> Tensor:
        """Return the block's output."""
        active = self.act(self.bn1(features))
        shortcut = features if self.shortcut is None else self.shortcut(active)
        inner = self.dropout(self.act(self.bn2(self.conv1(active))))
        output: Tensor = shortcut + self.drop_path(self.conv2(inner))
        return output


class WideResNet(Network):
    """WRN-d-k: 6n + 4 layers, three stages of n blocks with 16k, 32k and 64k channels.

    The drop rate acts between the two convolutions of a block (the paper's section 3.2), not before the head.

    Reference: Zagoruyko and Komodakis 2016, arXiv 1605.07146.
    """

    def __init__(self, depth: int, width: int, shape: Shape) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        rates = drop_path_rates(shape, 3 * blocks)
        widths = (16 * width, 32 * width, 64 * width)
        self.stem = nn.Conv2d(shape.channels, 16, 3, shape.stem_stride, 1, bias=False)
        stages, inputs = [], 16
        for index, outputs in enumerate(widths):
            stage = []
            for position in range(blocks):
                stride = 2 if index and not position else 1
                stage.append(Block(inputs, outputs, stride, shape.drop_rate, next(rates)))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.feature_info = stages_info(
            {f"stages.{i}": outputs for i, outputs in enumerate(widths)}, shape.stem_stride
        )
        self.finish(inputs, shape, head_dropout=False)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps."""
        features: Tensor = self.norm(self.stages(self.stem(images)))
        return features


ARCHITECTURES.append(
    Architecture(
        pattern=r"wideresnet-(\d+)-(\d+)",
        form="wideresnet-DEPTH-WIDTH",
        examples=("wideresnet-16-8", "wideresnet-28-10", "wideresnet-40-10"),
        law="DEPTH = 6n + 4 (10, 16, 22, …) and WIDTH of at least 1",
        lawful=lambda depth, width: depth >= 10 and (depth - 4) % 6 == 0 and width >= 1,
        build=WideResNet,
        reference="Zagoruyko and Komodakis 2016, arXiv 1605.07146",
        options=frozenset({"drop_rate", "drop_path_rate"}),
    )
)

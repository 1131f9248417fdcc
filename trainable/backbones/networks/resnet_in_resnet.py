"""ResNet in ResNet: a residual stream and a transient one side by side, each feeding both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainable.backbones.networks._base import ARCHITECTURES, Architecture, Network, Shape, stages_info

REPEATS = (4, 6, 6)
"""Generalised layers of each stage; with the stem and the classifier they make the paper's 18 layers."""


class Layer(nn.Module):
    """A generalised residual layer: 3x3 within and across two streams, a shortcut on the residual one.

    The first half of the channels is the residual stream, the second the transient one. One convolution of all
    channels holds the four sets of filters (residual and transient, each to both) of equation 1.

    Args:
        inputs: Channels of both streams together.
        outputs: Channels of both streams together.
        stride: Of the convolution; the shortcut is a 1x1 convolution where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs // 2, outputs // 2, 1, stride, bias=False) if changes else None
        self.norm = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return both streams `(B, outputs, h, w)`."""
        residual, _ = features.chunk(2, dim=1)
        to_residual, to_transient = self.conv(features).chunk(2, dim=1)
        shortcut = residual if self.shortcut is None else self.shortcut(residual)
        output: Tensor = self.act(self.norm(torch.cat((to_residual + shortcut, to_transient), dim=1)))
        return output


class ResNetInResNet(Network):
    """The 18-layer network: three stages of generalised layers with `width`, 2 and 4 times `width` channels.

    Deviations: the head is a global average and a linear layer; there is no second shortcut over each pair of
    layers, as in the public implementations.

    Reference: Targ, Almeida and Lyman 2016, arXiv 1603.08029.
    """

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        self.stem = nn.Sequential(
            nn.Conv2d(shape.channels, width, 3, shape.stem_stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        stages, inputs = [], width
        for index, (outputs, repeats) in enumerate(zip(widths, REPEATS, strict=True)):
            stage = []
            for position in range(repeats):
                stage.append(Layer(inputs, outputs, 2 if index and not position else 1))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.feature_info = stages_info(
            {f"stages.{i}": outputs for i, outputs in enumerate(widths)}, shape.stem_stride
        )
        self.finish(inputs, shape, head_dropout=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps, both streams."""
        features: Tensor = self.stages(self.stem(images))
        return features


ARCHITECTURES.append(
    Architecture(
        pattern=r"rir-(\d+)",
        form="rir-WIDTH",
        examples=("rir-16", "rir-96"),
        law="an even WIDTH (channels of the first stage; the paper's is 96)",
        lawful=lambda width: width >= 2 and width % 2 == 0,
        build=ResNetInResNet,
        reference="Targ, Almeida and Lyman 2016, arXiv 1603.08029",
    )
)

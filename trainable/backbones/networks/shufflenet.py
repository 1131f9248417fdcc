"""ShuffleNet, first version: grouped 1x1 convolutions whose channels are shuffled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainable.backbones.networks._base import ARCHITECTURES, Architecture, Network, Shape

FIRST_WIDTH = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Channels of stage 2 at width 1 by the number of groups (table 1 of the paper)."""
REPEATS = (4, 8, 4)
STEM = 24


class Unit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; at stride 2 the pooled input is concatenated.

    Args:
        inputs: Channels.
        outputs: Channels; a quarter of them inside.
        groups: Of the 1x1 convolutions.
        first_groups: Of the first one: 1 where the input has few channels.
        stride: 1 adds the input, 2 concatenates its average.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, first_groups: int, stride: int) -> None:
        super().__init__()
        inner, made = outputs // 4, outputs - inputs if stride == 2 else outputs
        self.groups, self.stride = groups, stride
        self.squeeze = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, groups=first_groups, bias=False), nn.BatchNorm2d(inner), nn.ReLU()
        )
        self.expand = nn.Sequential(
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.Conv2d(inner, made, 1, groups=groups, bias=False),
            nn.BatchNorm2d(made),
        )
        self.pool = nn.AvgPool2d(3, 2, 1)
        self.act = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Return the unit's output."""
        inner = nn.functional.channel_shuffle(self.squeeze(features), self.groups)
        inner = self.expand(inner)
        joined = torch.cat([self.pool(features), inner], 1) if self.stride == 2 else features + inner
        output: Tensor = self.act(joined)
        return output


class ShuffleNet(Network):
    """ShuffleNet v1 of a width and a number of groups.

    Reference: Zhang et al. 2018, arXiv 1707.01083, table 1.
    """

    def __init__(self, groups: int, width: float, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(shape.channels, STEM, 3, 2, 1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU()
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, inputs, first = [], STEM, round(FIRST_WIDTH[groups] * width)
        self.feature_info = []
        for index, repeats in enumerate(REPEATS):
            outputs = first * 2**index
            stage = []
            for position in range(repeats):
                # The stem's 24 channels are too few to be grouped (section 3.2).
                first_groups = groups if index or position else 1
                stage.append(Unit(inputs, outputs, groups, first_groups, 1 if position else 2))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
            self.feature_info.append(
                {"module": f"stages.{index}", "num_chs": outputs, "reduction": 8 * 2**index}
            )
        self.stages = nn.Sequential(*stages)
        self.finish(inputs, shape, head_dropout=True)

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps."""
        features: Tensor = self.stages(self.maxpool(self.conv1(images)))
        return features


def _divisible(groups: int, width: float) -> bool:
    return groups in FIRST_WIDTH and width > 0 and round(FIRST_WIDTH[groups] * width) % (4 * groups) == 0


ARCHITECTURES.append(
    Architecture(
        pattern=r"shufflenet-g(\d+)-x(\d+(?:\.\d+)?)",
        form="shufflenet-gGROUPS-xWIDTH",
        examples=("shufflenet-g3-x0.5", "shufflenet-g3-x1.0", "shufflenet-g8-x1.0"),
        law=f"GROUPS of {', '.join(map(str, FIRST_WIDTH))} and a WIDTH whose channels they divide",
        lawful=_divisible,
        build=ShuffleNet,
        reference="Zhang et al. 2018, arXiv 1707.01083",
    )
)

"""What the networks of this folder share: timm's interface, and a name that says depth and width."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from analysis.errors import UsageError


@dataclass(frozen=True)
class Shape:
    """What a network is built for, whatever its architecture.

    Attributes:
        num_classes: Outputs.
        channels: Of the input images.
        stem_stride: Of the first convolution: 1 as in the papers on CIFAR, 2 for images above 32 pixels.
        drop_rate: Dropout; where it acts is the architecture's.
        drop_path_rate: Stochastic depth of the last block; 0 in the first, linear between.
    """

    num_classes: int
    channels: int = 3
    stem_stride: int = 1
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0


class Network(nn.Module):
    """Features, global average pool, linear classifier; the same methods as a timm model.

    A subclass defines `forward_features` (images `(B, channels, H, W)` to maps `(B, num_features, h, w)`)
    and calls `finish` at the end of its constructor.

    Attributes:
        feature_info: For each stage its `module` (path), `num_chs` and `reduction` (total stride), as in timm.
    """

    num_features: int
    feature_info: list[dict[str, int | str]]

    def finish(self, num_features: int, shape: Shape, *, head_dropout: bool) -> None:
        """Add the head and draw the weights (He et al. 2015, normal, fan out)."""
        self.num_features = num_features
        self.num_classes = shape.num_classes
        self.head_drop = nn.Dropout(shape.drop_rate if head_dropout else 0.0)
        self.reset_classifier(shape.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last feature maps `(B, num_features, h, w)`."""
        raise AssertionError("a network defines forward_features")

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits `(B, num_classes)`, or the pooled features `(B, num_features)` before them."""
        pooled: Tensor = self.head_drop(features.mean(dim=(2, 3)))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)`."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by one with `num_classes` outputs and new weights, or by none for 0."""
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


def stages_info(stages: dict[str, int], stem_stride: int) -> list[dict[str, int | str]]:
    """Return `feature_info` of stages (path to channels) of which each after the first halves the maps."""
    return [
        {"module": path, "num_chs": channels, "reduction": stem_stride * 2**index}
        for index, (path, channels) in enumerate(stages.items())
    ]


def drop_path_rates(shape: Shape, depth: int) -> Iterator[float]:
    """Yield the rate of each of `depth` blocks, from 0 to `shape.drop_path_rate` (Huang et al. 2016, eq. 4)."""
    yield from (shape.drop_path_rate * position / max(1, depth - 1) for position in range(depth))


@dataclass(frozen=True)
class Architecture:
    """A family of networks that differ by the numbers in their names.

    Attributes:
        pattern: Of the whole name, a group for each number.
        form: The name for people, for example `wideresnet-DEPTH-WIDTH`.
        examples: Names that the papers use.
        law: What the numbers must fulfil, for messages.
        lawful: Whether the numbers do.
        build: Makes the network.
        reference: Authors, year, arXiv id.
        options: Rates that the network has a place for.
    """

    pattern: str
    form: str
    examples: tuple[str, ...]
    law: str
    lawful: Callable[..., bool]
    build: Callable[..., Network]
    reference: str
    options: frozenset[str] = field(default=frozenset({"drop_rate"}))

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """Return the numbers in `name`, or None where it is another family's.

        Raises:
            UsageError: If they break the law of the family.
        """
        match = re.fullmatch(self.pattern, name)
        if match is None:
            return None
        numbers = tuple(float(group) if "." in group else int(group) for group in match.groups())
        if not self.lawful(*numbers):
            raise UsageError(
                f"backbone.name: {self.form} must have {self.law}, got {name}",
                f"for example {', '.join(self.examples)}",
            )
        return numbers


ARCHITECTURES: list[Architecture] = []
"""Every family of this folder; each file adds its own."""

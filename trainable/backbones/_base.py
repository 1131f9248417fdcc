"""What a backbone is: a name, where its weights come from, and how it is fitted to the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import nn

from analysis.errors import UsageError, unknown_name
from trainable.component import Component, Range

SOURCES = ("timm", "torchvision", "tailtune")
"""What may stand before the colon of a name; without a colon it is ours where it has our form, else timm's."""


class Backbone(Component):
    """Config of a classifier network.

    `name` is timm's (`resnet18`, optionally `timm:resnet18` or with a pretrained tag
    `convnext_base.fb_in22k`), torchvision's (`torchvision:googlenet`), or of this package
    (`wideresnet-40-10`, optionally `tailtune:wideresnet-40-10`).
    """

    name: Annotated[str, Field(min_length=1)] = "resnet18"
    pretrained: bool = False
    """Start from trained weights; where they cannot be had that is an error, never a random start."""
    weights: str | None = None
    """A file (safetensors, or a state dict that `torch.load(weights_only=True)` accepts) or a folder.

    Given, it is where the trained weights come from, whatever `pretrained` says."""
    stem: Literal["auto", "original", "small"] = "auto"
    """`small`: stride 1 and no pool up to 32 px, stride 2 without pool up to 80 px. `auto`: small where
    the shorter side is at most `small_stem_up_to` and the family has such a stem."""
    small_stem_up_to: Annotated[int, Field(ge=0, le=4096)] = 80
    """Pixels, see `stem`. At 48 px a small stem makes a ResNet 2.8 times as expensive."""
    drop_rate: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.0, 0.4)] = 0.0
    drop_path_rate: Annotated[float, Field(ge=0.0, lt=1.0), Range(0.0, 0.3)] = 0.0
    attention: Literal["none", "se", "cbam"] = "none"
    """In each residual block of timm's ResNets and ResNeXts: of channels (`se`, Hu et al. 2018, arXiv
    1709.01507), or of channels and places (`cbam`, Woo et al. 2018, arXiv 1807.06521)."""
    fusion: Literal["none", "concat", "sum"] = "none"
    """The classifier sees the pooled features of every stage, side by side or added up; trained weights are
    the plain network's."""

    @model_validator(mode="after")
    def _published(self) -> Backbone:
        if self.attention != "none" and self.pretrained and self.weights is None:
            raise UsageError(
                f"backbone.attention adds layers, which no published weights have, got {self.attention} "
                "with `pretrained`",
                "choose a network that was trained with them (`seresnet50`), or start at random",
            )
        return self

    @property
    def trained(self) -> bool:
        """True where training starts from trained weights."""
        return self.pretrained or self.weights is not None

    @property
    def source(self) -> str:
        """One of `SOURCES`.

        Raises:
            UsageError: If the name has a source that does not exist.
        """
        source, colon, _ = self.name.partition(":")
        if not colon:
            from trainable.backbones.networks import ARCHITECTURES

            ours = any(architecture.numbers(self.name) for architecture in ARCHITECTURES)
            return "tailtune" if ours else "timm"
        if source not in SOURCES:
            raise unknown_name("backbone source", source, SOURCES)
        return source

    @property
    def model_name(self) -> str:
        """The name without its source."""
        return self.name.rpartition(":")[2]


def build_backbone(
    config: Backbone,
    num_classes: int,
    image_size: tuple[int, int],
    channels: int,
    *,
    load_trained: bool = True,
) -> nn.Module:
    """Return the network of `config`: images `(B, channels, H, W)` to logits `(B, num_classes)`.

    Weights that are not loaded are drawn from torch's global generator, which the caller seeds.

    Args:
        config: Which network.
        num_classes: C of the task.
        image_size: Height and width in pixels; decides the stem.
        channels: 1 or 3; a trained first layer is summed over its channels for 1.
        load_trained: False builds the same architecture without reading trained weights, for a caller
            that loads a checkpoint of its own afterwards.

    Raises:
        UsageError: If the name is unknown, an option is not the model's, or the images are too small.
        TailtuneError: If trained weights were asked for and cannot be had, or do not fit.
    """
    from trainable.backbones.sources import build

    return build(config, num_classes, image_size, channels, load_trained=load_trained)


def check_parts(config: Backbone) -> None:
    """Refuse attention or fusion where the network has no place for it; costs nothing where there is neither.

    Raises:
        UsageError: If it has none, or the name is unknown.
    """
    if (config.attention, config.fusion) != ("none", "none"):
        from trainable.backbones.sources import check_options

        check_options(config)


def check_backbone(config: Backbone) -> None:
    """Refuse, without building it, a backbone whose name, options or weights cannot be had.

    Raises:
        UsageError: If the name is unknown, or an option is not the model's.
        TailtuneError: If trained weights were asked for and are neither here nor on a hub that answers.
    """
    from trainable.backbones.sources import check_options
    from trainable.backbones.weights import locate_weights

    check_options(config)
    if config.trained:
        locate_weights(config)


def check_weights(config: Backbone) -> None:
    """Refuse a weights file that cannot be read, or is of another network; builds the network to find out.

    Raises:
        TailtuneError: As `build_backbone`.
    """
    from trainable.backbones.sources import source_of
    from trainable.backbones.weights import read_weights

    source_of(config).make(config, 2, (224, 224), 3, read_weights(config))


OPTIONS: Mapping[str, float | str] = {
    "drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "attention": "none",
    "fusion": "none",
}
"""Options that not every network has a place for, each with the value that leaves it out."""


def supports(name: str, option: str) -> bool:
    """Return whether the network called `name` has a place for one of `OPTIONS`; searches ask only then.

    Raises:
        UsageError: If the name is unknown.
    """
    from trainable.backbones.sources import accepts

    return accepts(Backbone(name=name), option)


def supports_drop_path(name: str) -> bool:
    """Return whether the network called `name` has stochastic depth."""
    return supports(name, "drop_path_rate")


def input_statistics(config: Backbone) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and standard deviation (of RGB in [0, 1]) that the trained weights expect.

    None where training starts from random weights: the data's own statistics serve then. The values are
    for three channels; grey images are repeated to three before a trained network sees them.
    """
    if not config.trained:
        return None
    from trainable.backbones.weights import trained_statistics

    return trained_statistics(config)

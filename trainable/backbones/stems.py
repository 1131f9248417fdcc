"""First layers for small images: less of the picture is thrown away before the first block sees it."""

from __future__ import annotations

from typing import Literal

from torch import nn

from analysis.errors import UsageError

TINY, SMALL = 32, 80
"""Shorter side in pixels up to which a small stem has stride 1, and stride 2."""

# The parts of the stem in timm's classes. Only convolution families: a transformer's grid of patches is
# bound to its position embedding.
STEMS: dict[str, tuple[str, ...]] = {
    "ResNet": ("conv1", "maxpool"),
    "SENet": ("layer0", "pool0"),
    "DenseNet": ("features.conv0", "features.pool0"),
    "DPN": ("features.conv1_1", "features.conv1_pool"),
    "EfficientNet": ("conv_stem",),
    "MobileNetV3": ("conv_stem",),
    "GhostNet": ("conv_stem",),
    "RegNet": ("stem",),
    "RexNet": ("stem",),
    "ResNetV2": ("stem",),
    "NormFreeNet": ("stem",),
    "XceptionAligned": ("stem",),
    "VovNet": ("stem",),
    "ConvNeXt": ("stem",),
    "EdgeNeXt": ("stem",),
    "InceptionV3": ("Conv2d_1a_3x3", "Pool1", "Pool2"),
    "InceptionV4": ("features.0", "features.3"),
    "InceptionResnetV2": ("conv2d_1a", "maxpool_3a", "maxpool_5a"),
    "Xception": ("conv1",),
    "NASNetALarge": ("conv0",),
    # torchvision's
    "GoogLeNet": ("conv1", "maxpool1", "maxpool2"),
    "ShuffleNetV2": ("conv1", "maxpool"),
    "SqueezeNet": ("features.0", "features.2"),
    # ours
    "ShuffleNet": ("conv1", "maxpool"),
    "ResidualAttention": ("conv1", "maxpool"),
}

TORCHVISION: dict[str, tuple[str, ...]] = {
    "ConvNeXt": ("features.0",),
    "EfficientNet": ("features.0",),
    "MobileNetV3": ("features.0",),
}
"""torchvision's classes that share a name with timm's, and not their parts."""

BESIDE_A_CONVOLUTION = {"InceptionV4": ("features.3.maxpool",)}
"""Pools whose output is concatenated to a convolution's: they stay, with the convolution's stride."""


def fit_stem(
    model: nn.Module,
    name: str,
    stem: Literal["auto", "original", "small"],
    image_size: tuple[int, int],
    small_up_to: int = SMALL,
) -> None:
    """Change the stem of `model` in place: only strides and pools, so that every trained weight stays.

    Total stride of the stem: 1 up to 32 px (shorter side), 2 above. Kernels keep their size; the CIFAR
    networks of He et al. 2016 (arXiv 1512.03385, section 4.2) have 3x3 there, a timm ResNet keeps its 7x7.

    Args:
        model: A timm model.
        name: Its name, for the message.
        stem: As in `Backbone.stem`.
        image_size: Height and width in pixels.
        small_up_to: Shorter side up to which `auto` is small.

    Raises:
        UsageError: If a small stem is asked for and the family has none.
    """
    side = min(image_size)
    if stem == "original" or (stem == "auto" and side > small_up_to):
        return
    parts = _stem_of(model)
    if parts is None:
        if stem == "auto":
            return
        raise UsageError(
            f"backbone.stem may be 'small' only where the family has such a stem, and {name} has none",
            "write `stem: auto` or `stem: original`",
        )
    beside = BESIDE_A_CONVOLUTION.get(type(model).__name__, ())
    for path in beside:
        pool = model.get_submodule(path)
        assert isinstance(pool, nn.MaxPool2d)
        pool.stride = 1
    _set_stride(model, parts, 1 if side <= TINY else 2, kept=beside)


def _stem_of(model: nn.Module) -> tuple[str, ...] | None:
    """Return the paths of the stem's parts, or None where the family has no small stem."""
    name = type(model).__name__
    theirs = TORCHVISION.get(name) if type(model).__module__.startswith("torchvision.") else None
    return theirs or STEMS.get(name)


def _set_stride(model: nn.Module, parts: tuple[str, ...], stride: int, *, kept: tuple[str, ...]) -> None:
    """Give the stem's first strided convolution all of `stride`, every other 1; drop the pools but `kept`."""
    strided = [
        conv
        for part in parts
        for conv in model.get_submodule(part).modules()
        if isinstance(conv, nn.Conv2d) and max(conv.stride) > 1
    ]
    for position, conv in enumerate(strided):
        _restride(conv, stride if position == 0 else 1)
    for part in parts:
        for path, module in list(model.get_submodule(part).named_modules(prefix=part)):
            is_pool = _is_pool(path) or isinstance(module, nn.MaxPool2d)
            if (
                is_pool
                and path not in kept
                and not any(isinstance(inner, nn.Conv2d) for inner in module.modules())
            ):
                model.set_submodule(path, nn.Identity())


def _restride(conv: nn.Conv2d, stride: int) -> None:
    kernel = conv.kernel_size[0]
    if kernel % 2 == 0:  # a patch stem has no padding; with overlap it needs some to keep the border
        conv.padding = ((kernel - stride + 1) // 2,) * 2
    conv.stride = (stride, stride)


def _is_pool(path: str) -> bool:
    return path.rsplit(".", 1)[-1] in {"maxpool", "pool", "pool0", "conv1_pool"}

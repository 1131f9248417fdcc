"""What can be known of a network by its name alone, found out on torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones._base import Backbone, build_backbone
from trainable.backbones.fusion import FusedNetwork
from trainable.backbones.taps import classifier_of, intermediate_stages, spatial_mean


@dataclass(frozen=True)
class Anatomy:
    """What can be known of a network before it is built.

    Attributes:
        num_stages: Intermediate stages whose features can be read, counted from the last one backwards.
        has_classifier: Whether one linear layer makes the logits, as the last thing that the network does.
        has_bias: Whether that layer has a bias.
        any_size: Whether images of other sizes than it was built for fit.
        fuses: Whether a classifier can be put over the features of all its stages (`fusion.py`).
    """

    num_stages: int
    has_classifier: bool
    has_bias: bool
    any_size: bool
    fuses: bool


@lru_cache(maxsize=256)
def anatomy(name: str) -> Anatomy:
    """Return the anatomy of the network called `name`, found out without memory for its weights.

    Raises:
        UsageError: If the name is unknown.
    """
    with torch.device("meta"):
        model, side = _built(name)
        model.eval()
        images = torch.zeros(1, 3, side, side)
        num_stages, is_last = _observed(model, images)
        any_size = _runs(model, torch.zeros(1, 3, side - 32, side - 32)) is not None
        classifier = classifier_of(model)
        has_classifier = classifier is not None and is_last
        has_bias = classifier is not None and classifier.bias is not None
        fuses = has_classifier and num_stages > 0 and _fuses(model, num_stages, images)
    return Anatomy(num_stages, has_classifier, has_bias, any_size, fuses)


def _fuses(model: nn.Module, num_stages: int, images: Tensor) -> bool:
    """Return whether the model, which is used up by it, works under a fused classifier."""
    methods = ("forward_features", "forward_head", "reset_classifier")
    if not all(hasattr(model, key) for key in methods) or not isinstance(classifier_of(model), nn.Linear):
        return False
    try:
        return _runs(FusedNetwork(model, "concat", 2, num_stages).eval(), images) is not None
    except (AttributeError, TypeError):  # a head of another form, without features before its logits
        return False


def _built(name: str) -> tuple[nn.Module, int]:
    """Return the network, and a side of images that it takes: some of torchvision's know 224 pixels alone."""
    backbone = Backbone(name=name, stem="original")
    try:
        return build_backbone(backbone, 2, (256, 256), 3, load_trained=False), 256
    except UsageError as error:
        try:
            return build_backbone(backbone, 2, (224, 224), 3, load_trained=False), 224
        except UsageError:
            raise error from None


def _runs(model: nn.Module, images: Tensor) -> Tensor | None:
    """Return the logits of `images`, or None where the network does not take them."""
    try:
        logits: Tensor = model(images)
    except (RuntimeError, AssertionError, ValueError, TailtuneError):
        return None
    return logits


def _observed(model: nn.Module, images: Tensor) -> tuple[int, bool]:
    """Return how many stages before the last can be read, and whether the classifier's outputs are the logits.

    What a network names is not always what it runs: a stage may be no module of its own, be passed by, or
    return several tensors; and something may be added to what the classifier says.
    """
    stages = intermediate_stages(model)
    outputs: dict[str, list[object]] = {}
    watched = {f"stage {number}": _submodule(model, stage.module) for number, stage in enumerate(stages)}
    handles = [
        module.register_forward_hook(lambda _, __, output, key=key: outputs.setdefault(key, []).append(output))
        for key, module in {**watched, "classifier": classifier_of(model)}.items()
        if module is not None
    ]
    logits = _runs(model, images)
    for handle in handles:
        handle.remove()
    if logits is None:
        return len(stages), True
    readable = 0
    for number, stage in reversed(list(enumerate(stages))):
        if not _is_readable(outputs.get(f"stage {number}", []), stage.channels, len(images)):
            break
        readable += 1
    said = outputs.get("classifier", [])
    return readable, len(said) == 1 and isinstance(said[0], Tensor) and _is_view(logits, said[0])


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _is_readable(outputs: list[object], channels: int, size: int) -> bool:
    if len(outputs) != 1 or not isinstance(outputs[0], Tensor) or outputs[0].ndim not in (3, 4):
        return False
    return spatial_mean(outputs[0], channels).shape == (size, channels)


def _is_view(found: Tensor, of: Tensor) -> bool:
    """Return whether `found` is `of` in another shape: gradients pass from one to the other by views alone."""
    node = found.grad_fn
    while node is not None and node is not of.grad_fn:
        if not node.name().startswith(("View", "UnsafeView", "Squeeze", "Reshape", "Alias")):
            return False
        node = node.next_functions[0][0]
    return node is not None

"""Where a network's insides can be read: its stages, and what its classifier is fed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import Backbone, build_backbone

USUAL_STAGES = 5


@dataclass(frozen=True)
class Stage:
    """An intermediate result.

    Attributes:
        module: Name of the module that returns it.
        channels: Its channels.
    """

    module: str
    channels: int


def intermediate_stages(model: nn.Module) -> list[Stage]:
    """Return the stages before the last, from first to last; empty where the network names none.

    timm's `feature_info` names them. Of a plain stack of blocks (transformers: every block has the same
    resolution) those that cut it into four are taken.
    """
    known = [entry for entry in (getattr(model, "feature_info", None) or []) if entry.get("module")]
    if len({entry["reduction"] for entry in known}) == 1 and len(known) >= 4:
        known = [known[len(known) * quarter // 4 - 1] for quarter in (1, 2, 3, 4)]
    return [Stage(entry["module"], int(entry["num_chs"])) for entry in known[:-1]]


def classifier_of(model: nn.Module) -> nn.Linear | nn.Conv2d | None:
    """Return the one layer that turns pooled features into logits, or None where there is no such layer."""
    get = getattr(model, "get_classifier", None)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    found = get() if callable(get) else (linear[-1] if linear else None)
    return found if isinstance(found, nn.Linear | nn.Conv2d) else None


@dataclass
class Catch:
    """What was read in one forward pass.

    Attributes:
        stages: Spatial means `(B, C_i)` float32 by the order of the stages.
        pooled: Input of the classifier `(B, D)` float32, or None.
    """

    stages: dict[int, Tensor] = field(default_factory=dict)
    pooled: Tensor | None = None


class Taps:
    """Reads along while a network computes; nothing stays attached to it in between.

    Args:
        model: The network.
        num_stages: Stages before the last that are read, from the last one backwards.
        pooled: Whether the classifier's input is read.

    Raises:
        UsageError: If the network has fewer stages, or no single classifier.
    """

    def __init__(self, model: nn.Module, num_stages: int = 0, *, pooled: bool = False) -> None:
        stages = intermediate_stages(model)
        if num_stages > len(stages):
            raise UsageError(f"the network has {len(stages)} stages before its last, {num_stages} are wanted")
        chosen = stages[len(stages) - num_stages :]
        self.stages = [(model.get_submodule(stage.module), stage.channels) for stage in chosen]
        self.widths = tuple(stage.channels for stage in chosen)
        self.classifier = classifier_of(model) if pooled else None
        if pooled and self.classifier is None:
            raise UsageError("the network must have one linear classifier, but has none")

    @property
    def pooled_width(self) -> int:
        """Features that the classifier is fed with; 0 where they are not read."""
        if self.classifier is None:
            return 0
        if isinstance(self.classifier, nn.Linear):
            return self.classifier.in_features
        return self.classifier.in_channels

    @contextmanager
    def reading(self) -> Iterator[Catch]:
        """Read the forward pass that happens inside."""
        catch = Catch()
        handles = [
            module.register_forward_hook(_stage_reader(catch, number, channels))
            for number, (module, channels) in enumerate(self.stages)
        ]
        if self.classifier is not None:
            handles.append(self.classifier.register_forward_pre_hook(_pooled_reader(catch)))
        try:
            yield catch
        finally:
            for handle in handles:
                handle.remove()


def _stage_reader(
    catch: Catch, number: int, channels: int
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def read(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # Averaged at once: a later layer may overwrite the features in place.
        catch.stages[number] = spatial_mean(output, channels)

    return read


def _pooled_reader(catch: Catch) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        catch.pooled = inputs[0].float().flatten(1)

    return read


def spatial_mean(features: Tensor, channels: int) -> Tensor:
    """Return `(B, C)` float32 of maps `(B, C, H, W)` or `(B, H, W, C)`, or of tokens `(B, N, C)`."""
    first = features.ndim == 4 and features.shape[1] == channels
    dims = (2, 3) if first else tuple(range(1, features.ndim - 1))
    return features.float().mean(dims)


@dataclass(frozen=True)
class Anatomy:
    """What can be known of a network before it is built.

    Attributes:
        num_stages: Intermediate stages whose features can be read, counted from the last one backwards.
        has_classifier: Whether one linear layer makes the logits, as the last thing that the network does.
        has_bias: Whether that layer has a bias.
        any_size: Whether images of other sizes than it was built for fit.
    """

    num_stages: int
    has_classifier: bool
    has_bias: bool
    any_size: bool


@lru_cache(maxsize=256)
def anatomy(name: str) -> Anatomy:
    """Return the anatomy of the network called `name`, found out without memory for its weights.

    Raises:
        UsageError: If the name is unknown.
    """
    with torch.device("meta"):
        model, side = _built(name)
        model.eval()
        num_stages, is_last = _observed(model, torch.zeros(1, 3, side, side))
        any_size = _runs(model, torch.zeros(1, 3, side - 32, side - 32)) is not None
    classifier = classifier_of(model)
    has_bias = classifier is not None and classifier.bias is not None
    return Anatomy(num_stages, classifier is not None and is_last, has_bias, any_size)


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

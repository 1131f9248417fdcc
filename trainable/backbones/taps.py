"""Where a network's insides can be read: its stages, and what its classifier is fed with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn

from analysis.errors import UsageError


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

"""Backbones from torchvision, for the families that timm has not: GoogLeNet, ShuffleNet v2, SqueezeNet."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import get_model_builder, list_models

from analysis.errors import TailtuneError, unknown_name
from trainable.backbones._base import Backbone
from trainable.backbones.channels import first_convolution, in_colour, sum_channels

NAMES: tuple[str, ...] = tuple(list_models(module=torchvision.models))
OPTIONS = {"drop_rate": "dropout"}
"""Ours and torchvision's name of an option."""


class TorchvisionSource:
    """Every classifier of torchvision, without auxiliary heads."""

    def check(self, config: Backbone) -> None:
        """Refuse a name that torchvision does not have."""
        if config.model_name not in NAMES:
            raise unknown_name("torchvision backbone", config.model_name, NAMES)

    def accepts(self, config: Backbone, option: str) -> bool:
        """Return whether the constructor takes torchvision's name of `option`."""
        self.check(config)
        return OPTIONS.get(option) in _parameters(config.model_name)

    def make(
        self,
        config: Backbone,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        state: dict[str, Tensor] | None,
    ) -> nn.Module:
        """Return torchvision's model."""
        classes = num_classes
        if state is not None:
            with torch.device("meta"):
                plain = self._plain(config, num_classes)
            state = in_colour(_renamed(state), f"{first_convolution(plain)[0]}.weight")
            head = state.get(f"{_head(plain)[0]}.weight")
            classes = num_classes if head is None else len(head)
        model = self._plain(config, classes)
        if state is not None:
            _load(config, model, state)
        if classes != num_classes:
            _replace_head(model, num_classes)
        if channels != 3:
            sum_channels(model)
        return model

    def _plain(self, config: Backbone, num_classes: int) -> nn.Module:
        options: dict[str, Any] = {"num_classes": num_classes}
        if self.accepts(config, "drop_rate"):
            options[OPTIONS["drop_rate"]] = config.drop_rate
        if "aux_logits" in _parameters(config.model_name):
            options |= {"aux_logits": False, "init_weights": True}
        model: nn.Module = get_model_builder(config.model_name)(weights=None, **options)
        return model


def _parameters(name: str) -> set[str]:
    """Return the constructor's parameters: the builder passes on what it does not know."""
    builder = get_model_builder(name)
    made = inspect.signature(builder).parameters
    namespace = inspect.unwrap(builder).__globals__
    classes = [cls for cls in namespace.values() if inspect.isclass(cls) and issubclass(cls, nn.Module)]
    models = [cls for cls in classes if cls.__module__ == builder.__module__ and "num_classes" in _init(cls)]
    return set(made).union(*map(_init, models))


def _init(cls: type[nn.Module]) -> set[str]:
    return set(inspect.signature(cls).parameters)


def _head(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the last linear layer or 1x1 convolution, and its path."""
    layers = [
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return layers[-1]


def _replace_head(model: nn.Module, num_classes: int) -> None:
    path, head = _head(model)
    fresh: nn.Module
    if isinstance(head, nn.Conv2d):
        fresh = nn.Conv2d(head.in_channels, num_classes, 1)
    else:
        assert isinstance(head, nn.Linear)
        fresh = nn.Linear(head.in_features, num_classes)
    model.set_submodule(path, fresh)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by today's names: torchvision's published DenseNets have `norm.1` for `norm1`."""
    return {
        re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): of for key, of in state.items()
    }


def _load(config: Backbone, model: nn.Module, state: dict[str, Tensor]) -> None:
    kept = {key: value for key, value in state.items() if not key.startswith(("aux", "AuxLogits"))}
    try:
        model.load_state_dict(kept, strict=True)
    except RuntimeError:
        wanted = model.state_dict()
        matching = sum(key in kept and kept[key].shape == value.shape for key, value in wanted.items())
        raise TailtuneError(
            f"backbone.weights must be of {config.name}, but {matching} of its {len(wanted)} tensors match "
            f"by name and shape ({len(kept)} in the file)",
            "give the weights of this architecture, or the name of theirs",
        ) from None

"""Backbones of this package (`networks/`): a name with numbers, as the papers write them."""

from __future__ import annotations

from torch import Tensor, nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones._base import Backbone
from trainable.backbones.channels import first_convolution, in_colour, sum_channels
from trainable.backbones.networks import ARCHITECTURES, Architecture, Network, Shape
from trainable.backbones.stems import TINY


class NetworkSource:
    """Every architecture of `networks/`."""

    def check(self, config: Backbone) -> None:
        """Refuse a name of no architecture, or one whose numbers break its law."""
        _found(config)

    def accepts(self, config: Backbone, option: str) -> bool:
        """Return whether the architecture has a place for `option`."""
        return option in _found(config)[0].options

    def make(
        self,
        config: Backbone,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        state: dict[str, Tensor] | None,
    ) -> nn.Module:
        """Return the network; its stem has stride 1 as in the papers on CIFAR, 2 for larger images."""
        architecture, numbers = _found(config)
        whole = config.stem == "original" or min(image_size) <= TINY
        shape = Shape(
            num_classes=num_classes,
            channels=channels if state is None else 3,
            stem_stride=1 if whole else 2,
            drop_rate=config.drop_rate,
            drop_path_rate=config.drop_path_rate,
        )
        network = architecture.build(*numbers, shape)
        if state is not None:
            _load(config, network, in_colour(state, f"{first_convolution(network)[0]}.weight"))
            if channels != 3:
                sum_channels(network)
        return network


def _found(config: Backbone) -> tuple[Architecture, tuple[float, ...]]:
    for architecture in ARCHITECTURES:
        numbers = architecture.numbers(config.model_name)
        if numbers is not None:
            return architecture, numbers
    forms = ", ".join(architecture.form for architecture in ARCHITECTURES)
    raise UsageError(f"unknown tailtune backbone '{config.model_name}' (known: {forms})")


def _load(config: Backbone, network: Network, state: dict[str, Tensor]) -> None:
    """Load `state` whole; only the head stays new where the number of classes differs."""
    bias = state.get("fc.bias")
    if bias is not None and len(bias) != network.num_classes:
        head = {key: value for key, value in network.state_dict().items() if key.startswith("fc.")}
        state = {**state, **head}
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError:
        wanted = network.state_dict()
        matching = sum(key in state and state[key].shape == value.shape for key, value in wanted.items())
        raise TailtuneError(
            f"backbone.weights must be of {config.name}, but {matching} of its {len(wanted)} tensors match "
            f"by name and shape ({len(state)} in the file)",
            "give the weights of this architecture, or the name of theirs",
        ) from None

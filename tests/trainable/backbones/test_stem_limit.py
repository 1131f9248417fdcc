"""`small_stem_up_to` decides where `auto` stops paying for a small stem."""

from __future__ import annotations

import pytest
from torch import nn

from trainable.backbones import Backbone, build_backbone


@pytest.mark.parametrize(
    ("limit", "side", "pooled"), [(80, 48, False), (32, 48, True), (32, 32, False), (0, 8, True)]
)
def test_auto_is_small_up_to_the_limit(limit: int, side: int, pooled: bool) -> None:
    config = Backbone(name="resnet10t", small_stem_up_to=limit)
    model = build_backbone(config, 10, (side, side), 1)
    assert isinstance(model.get_submodule("maxpool"), nn.Identity) is not pooled

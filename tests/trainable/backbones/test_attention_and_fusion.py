"""Attention in blocks, features fused across stages: built where there is a place, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.layers import SEModule
from timm.layers.cbam import CbamModule
from torch import nn

from analysis.errors import UsageError
from analysis.records import RecordFolder
from search_spaces.space import SearchSpace
from tests.search_spaces.test_suggestions import suggested
from tests.trainable.test_loop import small, train
from trainable.backbones import Backbone, build_backbone, supports
from trainable.backbones.fusion import FusedNetwork
from trainable.bundle import Preprocessing, load_model, timm_layout
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit

FUSED = {"name": "test_resnet", "fusion": "concat"}


@pytest.mark.parametrize(("attention", "kind"), [("se", SEModule), ("cbam", CbamModule)])
@pytest.mark.parametrize("name", ["resnet10t", "resnext26ts", "resnext50_32x4d"])
def test_every_block_of_a_resnet_has_the_attention(name: str, attention: str, kind: type[nn.Module]) -> None:
    if not supports(name, "attention"):
        with pytest.raises(UsageError, match=f"must be none for {name}"):
            build_backbone(Backbone.model_validate({"name": name, "attention": attention}), 3, (32, 32), 3)
        return
    model = build_backbone(Backbone.model_validate({"name": name, "attention": attention}), 3, (32, 32), 3)
    blocks = [block for stage in ("layer1", "layer4") for block in model.get_submodule(stage)]
    assert blocks
    assert all(isinstance(block.se, kind) for block in blocks)
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"name": "vgg11", "attention": "se"}, "backbone.attention must be none for vgg11, which has no place"),
        ({"name": "resnest14d", "attention": "cbam"}, "backbone.attention must be none for resnest14d"),
        ({"name": "wideresnet-16-2", "attention": "se"}, "backbone.attention must be none for wideresnet-16-2"),
        (
            {"name": "resnet18", "attention": "se", "pretrained": True},
            "no published weights have, got se",
        ),
        (
            {"name": "torchvision:squeezenet1_1", "fusion": "sum"},
            "backbone.fusion must be none for torchvision:squeezenet1_1",
        ),
        ({"name": "resnet18", "fusion": "max"}, "got 'max'"),
    ],
)
def test_what_a_network_has_no_place_for_is_refused_with_the_configuration(
    backbone: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        validated(TrialConfig, {"backbone": backbone})
    assert message in str(caught.value)


def test_a_fused_classifier_sees_every_stage() -> None:
    """By hand: the means of the stages' own maps, normed, beside the head's features."""
    torch.manual_seed(0)
    model = build_backbone(Backbone.model_validate(FUSED), 3, (32, 32), 3).eval()
    assert isinstance(model, FusedNetwork)
    images = torch.rand(2, 3, 32, 32)
    inner: Any = model.network
    maps = inner.act1(inner.bn1(inner.conv1(images)))
    parts = []
    stages = [maps := stage(maps) for stage in (inner.layer1, inner.layer2, inner.layer3, inner.layer4)]
    known = [entry["module"] for entry in inner.feature_info]
    assert known[-4:] == ["layer1", "layer2", "layer3", "layer4"]
    tapped = [inner.act1(inner.bn1(inner.conv1(images))), *stages[:-1]][-len(model.norms) :]
    parts = [stages[-1].mean((2, 3))]
    parts += [norm(each.mean((2, 3))) for norm, each in zip(model.norms, tapped, strict=True)]
    torch.testing.assert_close(model(images), model.classifier(torch.cat(parts, dim=1)))


def test_the_sum_of_lateral_layers_at_zero_is_the_head_alone() -> None:
    torch.manual_seed(0)
    model = build_backbone(Backbone(name="convnext_atto", fusion="sum"), 3, (32, 32), 3).eval()
    assert isinstance(model, FusedNetwork)
    for lateral in model.lateral:
        nn.init.zeros_(lateral.weight)
    images = torch.rand(2, 3, 32, 32)
    inner: Any = model.network
    last = inner.forward_head(inner.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images), model.classifier(last))


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "cifarresnet-8", "densenet121"])
def test_networks_of_other_shapes_are_fused(name: str) -> None:
    model = build_backbone(Backbone(name=name, fusion="concat"), 4, (32, 32), 1)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 4)
    model.get_parameter("classifier.weight").sum().backward()
    assert not [key for key in model.state_dict() if key.startswith(("network.fc.", "network.head.fc."))]


def test_trained_weights_of_the_plain_network_stay_under_a_fused_classifier(tmp_path: Path) -> None:
    torch.manual_seed(1)
    plain = build_backbone(Backbone(name="test_resnet"), 7, (32, 32), 3)
    save_file(plain.state_dict(), tmp_path / "plain.safetensors")
    config = Backbone.model_validate({**FUSED, "weights": str(tmp_path / "plain.safetensors")})
    fused = build_backbone(config, 5, (32, 32), 3)
    for key, value in plain.state_dict().items():
        if not key.startswith("fc."):
            torch.testing.assert_close(fused.state_dict()[f"network.{key}"], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"deep_supervision": {"name": "stages", "auxiliary": 2}, "averaging": {"name": "ema"}},
        {"classifier_retraining": {"name": "crt", "share": 0.5}, "contrastive": {"name": "supervised"}},
        {"progressive_resizing": {"name": "linear"}, "averaging": {"name": "swa", "start": 0.3}},
        {"backbone": {"name": "cifarresnet-8", "fusion": "sum"}, "optimizer": {"name": "sam"}},
        {"backbone": {"name": "test_resnet", "fusion": "sum", "attention": "cbam"}},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_a_fused_trial_goes_on_and_its_saved_network_answers_the_same(
    changes: dict[str, Any], digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(**{"epochs": 2, "select": "last", "backbone": FUSED, **changes})
    whole = train(config, digits, split, tmp_path / "whole")
    record = RecordFolder(tmp_path / "cut")
    next(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    *_, last = fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu")
    assert last.macro_f1 == whole[-1].macro_f1
    stored = RecordFolder(tmp_path / "whole").predictions()
    again = record.predictions()
    assert stored is not None
    assert again is not None
    np.testing.assert_array_equal(stored.logits, again.logits)
    preprocessing = Preprocessing.read(tmp_path / "cut")
    model = load_model(config, preprocessing, tmp_path / "cut" / "best.safetensors")
    assert timm_layout(config, preprocessing, model) is None, "timm would build the plain network"


def test_frozen_features_are_fused_side_by_side_and_never_by_sums() -> None:
    given: dict[str, Any] = {"frozen": {"name": "features"}, "backbone": {**FUSED, "weights": "somewhere"}}
    assert TrialConfig.model_validate(given).backbone.fusion == "concat"
    with pytest.raises(UsageError, match="fused side by side, got"):
        validated(TrialConfig, {**given, "backbone": {**given["backbone"], "fusion": "sum"}})


SEARCHED = """
backbone:
  choices: [test_resnet, test_convnext, "torchvision:squeezenet1_1"]
  drop_rate: 0.0
  drop_path_rate: 0.0
  attention: {choices: [none, se, cbam]}
  fusion: {choices: [none, concat, sum]}
"""


def test_a_search_asks_for_them_only_where_there_is_a_place() -> None:
    space = SearchSpace.from_yaml(SEARCHED)
    seen: dict[str, set[tuple[str, str]]] = {}
    for config, _ in suggested(space, 60):
        backbone = config.backbone
        seen.setdefault(backbone.name, set()).add((backbone.attention, backbone.fusion))
        assert space.parameters_of(config) is not None
    assert len(seen["test_resnet"]) > 4
    assert {attention for attention, _ in seen["test_convnext"]} == {"none"}
    assert {fusion for _, fusion in seen["test_convnext"]} == {"none", "concat", "sum"}
    assert seen["torchvision:squeezenet1_1"] == {("none", "none")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("backbone: {choices: [vgg11], attention: se}", "backbone.attention must be none for vgg11"),
        (
            "backbone: {choices: [resnet18], pretrained: true, attention: {choices: [none, se]}}",
            "no published weights have",
        ),
        (
            "frozen: features\nbackbone: {choices: [resnet18], weights: x, fusion: {choices: [none, sum]}}",
            "fused side by side",
        ),
    ],
)
def test_a_space_that_could_draw_what_cannot_work_is_refused(change: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SearchSpace.from_yaml(change)
    assert message in str(caught.value)

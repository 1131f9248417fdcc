"""The networks of this package have their papers' sizes, timm's methods, and laws for their names."""

import pytest
import torch
from torch import nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import (
    Backbone,
    build_backbone,
    check_backbone,
    count_flops,
    count_parameters,
    supports_drop_path,
)
from trainable.backbones.networks import ARCHITECTURES
from trainable.backbones.networks.residual_attention import AttentionModule
from trainable.backbones.networks.resnet_in_resnet import Layer
from trainable.backbones.sources import source_of

PUBLISHED = [
    # He et al. 2016, arXiv 1512.03385, table 6
    ("cifarresnet-20", 10, "0.27"),
    ("cifarresnet-32", 10, "0.46"),
    ("cifarresnet-44", 10, "0.66"),
    ("cifarresnet-56", 10, "0.85"),
    ("cifarresnet-110", 10, "1.7"),
    ("cifarresnet-1202", 10, "19.4"),
    # Zagoruyko and Komodakis 2016, arXiv 1605.07146, tables 4 and 5
    ("wideresnet-40-1", 10, "0.6"),
    ("wideresnet-40-2", 10, "2.2"),
    ("wideresnet-40-4", 10, "8.9"),
    ("wideresnet-16-8", 10, "11.0"),
    ("wideresnet-28-10", 10, "36.5"),
    ("wideresnet-28-12", 10, "52.5"),
    ("wideresnet-40-10", 10, "55.8"),
    # He et al. 2016, arXiv 1603.05027, table 4
    ("preactresnet-110", 10, "1.7"),
    ("preactresnet-bottleneck-164", 10, "1.7"),
    ("preactresnet-bottleneck-1001", 10, "10.2 without norms"),
    # the authors' own repository (megvii-model/ShuffleNet-Series)
    ("shufflenet-g3-x0.5", 1000, "0.7"),
    ("shufflenet-g3-x1.0", 1000, "1.9"),
    ("shufflenet-g3-x1.5", 1000, "3.4"),
    ("shufflenet-g3-x2.0", 1000, "5.4"),
    # Wang et al. 2017, arXiv 1704.06904, table 2
    ("residualattention-56-x1.0", 1000, "31.9"),
    # no figure of Targ et al. for these widths was at hand; a public implementation's (osmr/imgclsmob)
    ("rir-96", 10, "9.49"),
]


def on_meta(name: str, num_classes: int, size: tuple[int, int] = (32, 32), stem: str = "auto") -> nn.Module:
    with torch.device("meta"):
        config = Backbone.model_validate({"name": name, "stem": stem})
        return source_of(config).make(config, num_classes, size, 3, None)


@pytest.mark.parametrize(("name", "num_classes", "millions"), PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(name: str, num_classes: int, millions: str) -> None:
    """To the digits that the paper prints, cut or rounded: authors do either."""
    model = on_meta(name, num_classes)
    counted = count_parameters(model)
    printed, _, without_norms = millions.partition(" ")
    if without_norms:
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        counted -= sum(map(count_parameters, norms))
    unit = 10.0 ** -len(printed.partition(".")[2])
    assert abs(counted / 1e6 - float(printed)) < unit, counted


@pytest.mark.parametrize(("groups", "millions"), [(1, 143), (2, 140), (3, 137), (4, 133), (8, 137)])
def test_shufflenet_has_the_published_operations(groups: int, millions: int) -> None:
    """Zhang et al. 2018, table 1: multiply-adds at 224x224; ours count two operations each."""
    model = on_meta(f"shufflenet-g{groups}-x1.0", 1000, (224, 224))
    assert count_flops(model, (224, 224), 3) / 2e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize(("depth", "billions", "millions"), [(56, 6.2, 31.9), (92, 10.4, 51.3)])
def test_residual_attention_has_the_published_cost(depth: int, billions: float, millions: float) -> None:
    """Wang et al. 2017, table 2; the authors' own definition of the deeper one has 2 % more than they print."""
    model = on_meta(f"residualattention-{depth}-x1.0", 1000, (224, 224))
    assert count_flops(model, (224, 224), 3) / 2e9 == pytest.approx(billions, rel=0.02)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, rel=0.025)


def test_the_streams_of_a_generalised_layer_feed_each_other_and_one_has_a_shortcut() -> None:
    """Targ et al. 2016, equation 1, written out with four separate convolutions."""
    layer = Layer(6, 8, 2).eval()
    features = torch.rand(2, 6, 5, 7)
    residual, transient = features[:, :3], features[:, 3:]
    filters = layer.conv.weight
    parts = {
        (source, target): nn.functional.conv2d(
            (residual, transient)[source],
            filters[4 * target : 4 * target + 4, 3 * source : 3 * source + 3],
            stride=2,
            padding=1,
        )
        for source in (0, 1)
        for target in (0, 1)
    }
    assert layer.shortcut is not None
    to_residual = parts[0, 0] + parts[1, 0] + layer.shortcut(residual)
    to_transient = parts[0, 1] + parts[1, 1]
    expected = layer.act(layer.norm(torch.cat((to_residual, to_transient), dim=1)))
    torch.testing.assert_close(layer(features), expected)


def test_a_mask_of_zeros_leaves_half_again_of_the_trunk() -> None:
    """One plus the sigmoid of nothing is 1.5 (Wang et al. 2017, equation 3)."""
    module = AttentionModule(8, pools=2).eval()
    nn.init.zeros_(module.mask[-1].weight)
    features = torch.rand(1, 8, 15, 20)
    before = module.before(features)
    torch.testing.assert_close(module(features), module.after(1.5 * module.trunk(before)))


@pytest.mark.parametrize(
    "name",
    [
        "cifarresnet-8",
        "wideresnet-10-1",
        "preactresnet-8",
        "preactresnet-bottleneck-11",
        "shufflenet-g3-x0.5",
        "rir-16",
        "residualattention-56-x0.125",
    ],
)
def test_a_network_has_the_methods_of_a_timm_model(name: str) -> None:
    model = build_backbone(Backbone(name=name), 7, (32, 32), 1).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
        torch.testing.assert_close(model(images), model.get_classifier()(pooled))
    assert features.shape[:2] == pooled.shape == (2, model.num_features)
    seen = {}
    for stage in model.feature_info:
        model.get_submodule(stage["module"]).register_forward_hook(
            lambda _, __, output, stage=stage: seen.update({stage["module"]: output.shape})
        )
    model(images)
    assert [shape[1] for shape in seen.values()] == [stage["num_chs"] for stage in model.feature_info]
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)


def test_the_stem_follows_the_image() -> None:
    sides = {}
    for side, stem in ((32, "auto"), (64, "auto"), (64, "original")):
        model = build_backbone(
            Backbone.model_validate({"name": "cifarresnet-8", "stem": stem}), 3, (side, side), 1
        )
        sides[side, stem] = model.eval().forward_features(torch.zeros(1, 1, side, side)).shape[-1]
    assert sides == {(32, "auto"): 8, (64, "auto"): 8, (64, "original"): 16}


def test_the_stem_of_residual_attention_gives_way_to_small_images() -> None:
    sides = {}
    for side in (32, 64, 224):
        model = build_backbone(Backbone(name="residualattention-56-x0.125"), 3, (side, side), 1).eval()
        sides[side] = model.maxpool(model.conv1(torch.zeros(1, 1, side, side))).shape[-1]
    assert sides == {32: 32, 64: 32, 224: 56}


def test_stochastic_depth_skips_blocks_in_training_only() -> None:
    model = build_backbone(Backbone(name="cifarresnet-20", drop_path_rate=0.5), 3, (16, 16), 1)
    images = torch.rand(2, 1, 16, 16)
    assert not torch.equal(model.forward_features(images), model.forward_features(images))
    model.eval()
    torch.testing.assert_close(model(images), model(images), rtol=0, atol=0)
    assert supports_drop_path("wideresnet-28-10")
    assert not supports_drop_path("shufflenet-g3-x1.0")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wideresnet-41-10", "wideresnet-DEPTH-WIDTH must have DEPTH = 6n"),
        ("shufflenet-g5-x1.0", "must have GROUPS of 1, 2, 3, 4, 8"),
        ("rir-15", "rir-WIDTH must have an even WIDTH"),
        ("residualattention-57-x1.0", "must have DEPTH of 56 or 92"),
        ("tailtune:resnet18", "unknown tailtune backbone 'resnet18'"),
        ("wideresnet-40", "unknown backbone 'wideresnet-40'; did you mean 'wideresnet-40-10'"),
        ("torchvision:googlenett", "unknown torchvision backbone 'googlenett'; did you mean 'googlenet'"),
    ],
)
def test_names_that_nothing_answers_to_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_backbone(Backbone(name=name))
    assert message in str(caught.value)


def test_trained_weights_that_nobody_published_are_an_error() -> None:
    with pytest.raises(TailtuneError, match="no trained weights for wideresnet-40-10"):
        check_backbone(Backbone(name="wideresnet-40-10", pretrained=True))


def test_every_architecture_names_examples_that_it_builds() -> None:
    for architecture in ARCHITECTURES:
        assert architecture.reference
        assert all(architecture.numbers(example) is not None for example in architecture.examples)

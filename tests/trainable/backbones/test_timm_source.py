"""Every family of timm that a search may name builds, trains at small sizes, and refuses what it lacks."""

import re

import pytest
import timm
import torch

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import Backbone, build_backbone, check_backbone, supports_drop_path
from trainable.backbones.sources import smallest_side
from trainable.backbones.stems import STEMS, fit_stem

FAMILIES = [
    "resnet10t",
    "timm:resnet18",
    "mobilenetv3_small_050",
    "convnext_atto",
    "regnetx_002",
    "vit_tiny_patch16_224",
    "ghostnet_050",
]
MORE_FAMILIES = [
    "resnetv2_18",
    "legacy_seresnet18",
    "densenet121",
    "mobilenetv1_100",
    "efficientnet_b0",
    "vgg11_bn",
    "rexnet_100",
    "dpn48b",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_takes_two_steps_at_32_pixels(name: str) -> None:
    take_two_steps(name, (32, 32))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES, *MORE_FAMILIES])
def test_a_family_takes_two_steps_at_64_by_80_pixels(name: str) -> None:
    take_two_steps(name, (64, 80))


def take_two_steps(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    drop_path = 0.1 if supports_drop_path(name) else 0.0
    config = Backbone(name=name, drop_rate=0.1, drop_path_rate=drop_path)
    model = build_backbone(config, 5, size, 3)
    assert model.training
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        logits = model(torch.randn(2, 3, *size))
        assert logits.shape == (2, 5)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)


FIRST_STAGE = {
    "resnet18": "layer1",
    "densenet121": "features.denseblock1",
    "mobilenetv3_small_050": "blocks.0",
    "convnext_atto": "stages.0",
}


def first_map(name: str, side: int, stem: str = "auto") -> int:
    """Return the side of the feature map that the first stage is given."""
    model = build_backbone(Backbone.model_validate({"name": name, "stem": stem}), 3, (side, side), 1)
    seen: list[int] = []
    model.get_submodule(FIRST_STAGE[name]).register_forward_pre_hook(
        lambda _, args: seen.append(_side(args[0]))
    )
    model.eval()(torch.zeros(1, 1, side, side))
    return seen[0]


def _side(features: torch.Tensor | list[torch.Tensor]) -> int:
    return (features if isinstance(features, torch.Tensor) else features[0]).shape[-1]


@pytest.mark.parametrize(
    ("name", "side", "stem", "expected"),
    [
        ("resnet18", 32, "auto", 32),
        ("resnet18", 48, "auto", 24),
        ("resnet18", 80, "auto", 40),
        ("resnet18", 96, "auto", 24),
        ("resnet18", 32, "original", 8),
        ("resnet18", 96, "small", 48),
        ("densenet121", 32, "auto", 32),
        ("densenet121", 64, "auto", 32),
        ("mobilenetv3_small_050", 32, "auto", 32),
        ("mobilenetv3_small_050", 64, "auto", 32),
        ("convnext_atto", 64, "auto", 32),
        ("convnext_atto", 32, "auto", 33),  # an even kernel at stride 1 cannot keep 32
        ("convnext_atto", 96, "auto", 24),
    ],
)
def test_the_stem_keeps_more_of_a_small_image(name: str, side: int, stem: str, expected: int) -> None:
    assert first_map(name, side, stem) == expected


def test_every_stem_of_the_table_is_where_it_is_said_to_be() -> None:
    examples = {
        "ResNet": "resnet10t",
        "SENet": "legacy_seresnet18",
        "DenseNet": "densenetblur121d",
        "DPN": "dpn48b",
        "EfficientNet": "mnasnet_050",
        "MobileNetV3": "lcnet_035",
        "GhostNet": "ghostnet_050",
        "RegNet": "regnetx_002",
        "RexNet": "rexnetr_100",
        "ResNetV2": "resnetv2_18d",
        "NormFreeNet": "nf_resnet26",
        "XceptionAligned": "xception41",
        "VovNet": "vovnet39a",
        "ConvNeXt": "convnext_nano_ols",
        "EdgeNeXt": "edgenext_xx_small",
        "InceptionV3": "inception_v3",
        "InceptionV4": "inception_v4",
        "InceptionResnetV2": "inception_resnet_v2",
        "Xception": "legacy_xception",
        "NASNetALarge": "nasnetalarge",
    }
    elsewhere = {"GoogLeNet", "ShuffleNetV2", "SqueezeNet", "ShuffleNet", "ResidualAttention"}
    assert set(examples) | elsewhere == set(STEMS)
    for family, name in examples.items():
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=3)
            assert type(model).__name__ == family
            shapes = {key: value.shape for key, value in model.state_dict().items()}
            features = model.eval().forward_features(torch.zeros(1, 3, 96, 96))
            fit_stem(model, name, "small", (32, 32))
            finer = model.forward_features(torch.zeros(1, 3, 96, 96))
        assert {key: value.shape for key, value in model.state_dict().items()} == shapes
        assert finer.shape[-1] >= 2 * features.shape[-1]


def test_small_stem_is_refused_where_there_is_none() -> None:
    with pytest.raises(UsageError, match=r"backbone\.stem.*vgg11 has none"):
        build_backbone(Backbone(name="vgg11", stem="small"), 3, (32, 32), 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "unknown backbone 'resnet81'; did you mean 'resnet18'?"),
        ("resnet18.a9_in1k", "unknown pretrained tag of resnet18 'a9_in1k'; did you mean"),
        ("tim:resnet18", "unknown backbone source 'tim'; did you mean 'timm'?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_backbone(Backbone(name=name))
    assert str(caught.value).startswith(message)


def test_a_rate_that_the_model_has_no_place_for_is_refused() -> None:
    assert supports_drop_path("resnet18")
    assert not supports_drop_path("vgg11")
    with pytest.raises(UsageError, match=r"backbone\.drop_path_rate must be 0 for vgg11"):
        check_backbone(Backbone(name="vgg11", drop_path_rate=0.2))


def test_images_that_are_too_small_are_refused_with_the_smallest_size_that_works() -> None:
    config = Backbone(name="inception_v3", stem="original")
    with pytest.raises(UsageError, match="inception_v3 must take images of 32x32 pixels") as caught:
        build_backbone(config, 3, (32, 32), 3)
    found = re.search(r"the smallest that works is (\d+)x\1", str(caught.value))
    assert found is not None
    assert int(found[1]) == 75, "timm's own minimum"
    build_backbone(config, 3, (75, 75), 3)


def test_the_smallest_side_is_the_first_that_works() -> None:
    config = Backbone(name="torchvision:squeezenet1_1", stem="original")
    side = smallest_side(config, 3)
    assert side is not None
    build_backbone(config, 3, (side, side), 3)
    with pytest.raises(UsageError, match=f"the smallest that works is {side}x{side}"):
        build_backbone(config, 3, (side - 1, side - 1), 3)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    build_backbone(Backbone(name="xception"), 3, (64, 64), 3)  # a name that timm calls deprecated
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_a_network_of_one_size_or_of_squares_names_one_that_works() -> None:
    with pytest.raises(UsageError, match=r"; 224x224 works; take another --image-size \(224x224\)"):
        build_backbone(Backbone(name="torchvision:vit_b_32"), 4, (32, 32), 3)
    with pytest.raises(UsageError, match=r"; \d+x\d+ works; take another --image-size"):
        build_backbone(Backbone(name="convit_tiny"), 4, (60, 80), 3)


def test_memory_that_is_short_is_not_the_images_fault() -> None:
    with pytest.raises(TailtuneError, match=r"rir-1000000 must fit into memory, but does not: .*; choose"):
        build_backbone(Backbone(name="rir-1000000"), 4, (32, 32), 3)

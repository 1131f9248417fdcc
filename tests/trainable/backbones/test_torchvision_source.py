"""torchvision's networks: no auxiliary heads, grey images, their own trained weights."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import Backbone, build_backbone, check_backbone, count_flops, input_statistics
from trainable.backbones.stems import TINY

NAMES = ["torchvision:shufflenet_v2_x0_5", "torchvision:squeezenet1_1"]


def test_auxiliary_heads_are_off() -> None:
    model = build_backbone(Backbone(name="torchvision:googlenet", drop_rate=0.3), 4, (32, 32), 3)
    assert not [
        name for name, module in model.named_children() if name.startswith("aux") and module is not None
    ]
    assert model.dropout.p == 0.3
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize("name", NAMES)
def test_trained_weights_are_loaded_whole_but_for_the_head(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = torchvision.models.get_model(name.partition(":")[2], weights=None, num_classes=6)
    path = tmp_path / "trained.pth"
    torch.save(source.state_dict(), path)
    same = build_backbone(Backbone(name=name, weights=str(path)), 6, (96, 96), 3)
    for key, value in same.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[key], rtol=0, atol=0)
    other = build_backbone(Backbone(name=name, weights=str(path)), 3, (32, 32), 1).eval()
    assert other(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    first = next(iter(source.state_dict()))
    torch.testing.assert_close(other.state_dict()[first], source.state_dict()[first].sum(1, keepdim=True))
    with pytest.raises(TailtuneError, match="must be of torchvision:googlenet"):
        build_backbone(Backbone(name="torchvision:googlenet", weights=str(path)), 6, (32, 32), 3)


def test_weights_are_looked_for_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = Backbone(name=NAMES[1], pretrained=True)
    with pytest.raises(TailtuneError, match=r"not on this machine.*squeezenet1_1-.*\.pth"):
        check_backbone(config)
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    cached = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    cached.parent.mkdir(parents=True)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), cached)
    check_backbone(config)
    assert input_statistics(config) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert build_backbone(config, 5, (32, 32), 3)(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_a_rate_without_a_place_is_refused() -> None:
    with pytest.raises(UsageError, match=r"backbone\.drop_rate must be 0 for torchvision:shufflenet_v2_x0_5"):
        check_backbone(Backbone(name=NAMES[0], drop_rate=0.2))


@pytest.mark.parametrize(
    "name",
    ["convnext_tiny", "efficientnet_b0", "mobilenet_v3_small", "densenet121", "regnet_y_400mf"],
)
@pytest.mark.parametrize("size", [(32, 32), (60, 80)])
def test_small_stems_of_families_that_timm_has_as_well(name: str, size: tuple[int, int]) -> None:
    small, original = (
        build_backbone(Backbone(name=f"torchvision:{name}", stem=stem), 4, size, 3)
        for stem in ("small", "original")
    )
    assert small(torch.rand(2, 3, *size)).shape == (2, 4)
    more = count_flops(small, size, 3) / count_flops(original, size, 3)
    assert more > 1 if min(size) <= TINY else more >= 1  # stride 2 may be the published stem's own


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_the_order_of_the_file_does_not_matter(name: str, tmp_path: Path) -> None:
    source = build_backbone(Backbone(name=f"torchvision:{name}"), 7, (64, 64), 3)
    save_file(
        {key: value.contiguous() for key, value in source.state_dict().items()}, tmp_path / "a.safetensors"
    )
    for classes in (7, 4):
        model = build_backbone(
            Backbone(name=f"torchvision:{name}", weights=str(tmp_path / "a.safetensors")), classes, (64, 64), 3
        )
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, classes)


def test_published_densenets_have_other_names(tmp_path: Path) -> None:
    config = Backbone(name="torchvision:densenet121")
    source = build_backbone(config, 5, (32, 32), 3)
    renamed = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in source.state_dict().items()
    }
    assert set(renamed) != set(source.state_dict())
    torch.save(renamed, tmp_path / "a.pth")
    model = build_backbone(config.model_copy(update={"weights": str(tmp_path / "a.pth")}), 5, (32, 32), 3)
    torch.testing.assert_close(model.state_dict(), source.state_dict())


def test_weights_that_torchvision_shifts_inside_the_network_want_symmetric_inputs() -> None:
    for name in ("googlenet", "inception_v3"):
        assert input_statistics(Backbone(name=f"torchvision:{name}", pretrained=True)) == (
            (0.5,) * 3,
            (0.5,) * 3,
        )
    assert input_statistics(Backbone(name="torchvision:resnet18", pretrained=True)) != ((0.5,) * 3, (0.5,) * 3)

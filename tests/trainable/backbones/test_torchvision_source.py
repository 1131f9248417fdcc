"""torchvision's networks: no auxiliary heads, grey images, their own trained weights."""

from pathlib import Path

import pytest
import torch
import torchvision

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import Backbone, build_backbone, check_backbone, input_statistics

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

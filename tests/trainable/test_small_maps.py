"""Convolutions over few pixels are the same convolutions, as products of matrices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable import small_maps
from trainable.backbones import build_backbone
from trainable.config import Backbone, TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.precision import keep_in_fp32
from trainable.small_map_ways import ways_in_bf16
from trainable.small_maps import SmallMapConv2d, quicken_small_maps, unfolded
from trainable.state import TrialState

GEOMETRIES = [
    (3, 1, (2, 3)),
    (3, 1, (4, 5)),
    (3, 1, (2, 2)),
    (3, 1, (1, 1)),
    (3, 1, (1, 4)),
    (3, 1, (9, 10)),  # torch's own
    (3, 2, (4, 4)),
    (3, 2, (5, 7)),
    (3, 2, (1, 2)),
    (3, 2, (16, 15)),
    (3, 2, (20, 20)),  # torch's own
    (1, 1, (4, 4)),
    (1, 2, (5, 8)),
    (1, 2, (12, 12)),  # torch's own
]


pytestmark = pytest.mark.usefixtures("products_everywhere")


def passed(layer: nn.Module, images: torch.Tensor, *, bf16: bool) -> list[torch.Tensor]:
    """Return the output and all gradients of one pass."""
    given = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = layer(given)
    upstream = torch.rand(out.shape, generator=torch.Generator().manual_seed(1)) - 0.5
    (out.float() * upstream).sum().backward()
    return [out.detach().float(), given.grad, *(parameter.grad for parameter in layer.parameters())]


def shapes_seen(monkeypatch) -> list[tuple[int, ...]]:
    """Return a list that grows by the shape of all that is unfolded from now on."""
    seen: list[tuple[int, ...]] = []

    def recorded(images: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return unfolded(images, kernel, stride)

    monkeypatch.setattr(small_maps, "unfolded", recorded)
    return seen


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("wide", [64, 512])
@pytest.mark.parametrize(("kernel", "stride", "size"), GEOMETRIES)
def test_outputs_and_gradients_are_those_of_fp32_but_for_rounding(kernel, stride, size, wide, layout, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, wide, kernel, stride, kernel // 2, bias=bias).to(memory_format=layout)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=layout)
    wanted, got = passed(conv, images, bf16=False), passed(quick, images, bf16=True)
    for exact, rough in zip(wanted, got, strict=True):
        assert rough.shape == exact.shape
        assert (rough - exact).norm() < 0.01 * exact.norm()


def test_gradients_are_laid_out_as_their_weights_are():
    conv = nn.Conv2d(64, 96, 3, padding=1).to(memory_format=torch.channels_last)
    quicken_small_maps(nn.Sequential(conv))
    passed(conv, torch.randn(4, 64, 4, 4).contiguous(memory_format=torch.channels_last), bf16=True)
    assert conv.weight.grad.dtype == torch.float32
    assert conv.weight.grad.stride() == conv.weight.stride()


def test_what_is_unfolded_is_what_each_pixel_sees():
    images = torch.randn(2, 3, 5, 6)
    for stride in (1, 2):
        wanted = functional.unfold(images, 3, padding=1, stride=stride)  # (N, C * 9, pixels), taps innermost
        wanted = wanted.unflatten(1, (3, 9)).permute(0, 3, 2, 1).reshape(-1, 27)
        assert torch.equal(unfolded(images, 3, stride), wanted)


@pytest.mark.parametrize(
    ("kernel", "stride", "out_channels", "size", "wanted"),
    [
        (3, 1, 64, (4, 5), (False, True)),
        (3, 1, 64, (3, 7), (False, False)),
        (3, 1, 64, (2, 2), (True, True)),
        (3, 1, 512, (4, 5), (True, True)),
        (3, 1, 512, (3, 7), (False, False)),
        (3, 2, 64, (16, 15), (False, True)),
        (3, 2, 64, (17, 15), (False, False)),
        (3, 2, 512, (8, 10), (True, True)),
        (1, 1, 64, (4, 5), (True, True)),
        (1, 2, 64, (8, 10), (True, True)),
        (1, 2, 64, (9, 10), (False, False)),
    ],
)
def test_the_number_of_output_pixels_decides_in_bf16(kernel, stride, out_channels, size, wanted):
    ways = ways_in_bf16(kernel, stride, out_channels, torch.Size((2, 64, *size)))
    assert (ways.forward == "product", ways.of_weight == "product") == wanted
    assert ways.of_images == "torch"


def test_products_are_taken_in_formats_that_were_measured_and_only_where_they_are_used(monkeypatch):
    monkeypatch.setattr(small_maps, "is_intel_avx512", lambda: False)
    seen = shapes_seen(monkeypatch)
    conv = nn.Conv2d(64, 64, 3, padding=1)
    plain = copy.deepcopy(conv)
    quicken_small_maps(nn.Sequential(conv))
    images = torch.randn(2, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    for one, two in zip(passed(conv, images, bf16=False), passed(plain, images, bf16=False), strict=True):
        assert torch.equal(one, two)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        conv(images)  # the convolution itself is torch's, and there is no gradient
    passed(conv, torch.randn(2, 64, 4, 4), bf16=True)  # a contiguous network stays so
    passed(conv, torch.randn(2, 64, 9, 9).contiguous(memory_format=torch.channels_last), bf16=True)
    assert seen == []
    passed(conv, images, bf16=True)
    assert seen == [(2, 64, 4, 4)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("kernel", "size"), [(3, (2, 2)), (1, (4, 5)), (3, (4, 5))])
def test_without_gradients_the_output_is_the_same(mode, kernel, size):
    conv = nn.Conv2d(64, 512, kernel, padding=kernel // 2)
    quicken_small_maps(nn.Sequential(conv))
    images = torch.randn(3, 64, *size).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted = conv(images)
        with mode():
            assert torch.equal(conv(images), wanted)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(32, 64, 3, padding=1),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.Conv2d(64, 32, 1, padding=1),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.Conv2d(64, 64, (1, 3), padding=(0, 1)),
        nn.Conv2d(64, 64, 3, 3, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, dilation=2),
        nn.Conv2d(64, 64, 3, padding="same"),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_left_alone(conv):
    assert quicken_small_maps(nn.Sequential(conv)) == []
    assert type(conv) is nn.Conv2d


@pytest.mark.parametrize(
    ("supported", "machine"),
    [((), "x86_64"), (("avx512_bf16", "amx_tile"), "x86_64"), (("avx512_bf16",), "arm64")],
)
def test_where_it_was_not_measured_nothing_is_changed(monkeypatch, supported, machine):
    monkeypatch.setattr(small_maps, "is_intel_avx512", lambda: False)
    monkeypatch.setattr(small_maps, "_supports", lambda instructions: instructions in supported)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert quicken_small_maps(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))) == []


def test_without_onednn_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert quicken_small_maps(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))) == []


def test_a_torch_that_does_not_know_of_amx_is_taken_to_have_it(monkeypatch):
    monkeypatch.undo()  # the fixture, which stands for `_supports`
    for instructions in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{instructions}_supported", raising=False)
    assert small_maps._supports("amx_tile")
    assert not small_maps._supports("avx512_bf16")


def test_copies_stay_quick_and_weights_keep_their_names():
    conv = nn.Conv2d(64, 64, 3, padding=1)
    model = nn.Sequential(conv)
    names = list(model.state_dict())
    assert quicken_small_maps(model) == ["0"]
    assert quicken_small_maps(model) == []
    twin = copy.deepcopy(model)
    assert isinstance(twin[0], SmallMapConv2d)
    assert list(twin.state_dict()) == names
    passed(twin, torch.rand(2, 64, 2, 2), bf16=True)
    assert conv.weight.grad is None


def test_what_needs_no_gradient_gets_none():
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)
    quicken_small_maps(nn.Sequential(conv))
    images = torch.rand(2, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(images).sum().backward()
    assert images.grad is None
    conv.weight.requires_grad_(False)
    conv.weight.grad, given = None, images.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        conv(given).sum().backward()
    assert conv.weight.grad is None
    assert given.grad is not None


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "size"), [(1, (1, 1)), (3, (2, 2)), (3, (4, 5))])
def test_what_follows_may_overwrite_the_output(kernel, size, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 64, kernel, padding=kernel // 2, bias=bias).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=torch.channels_last)
    wanted = passed(nn.Sequential(conv, nn.ReLU()), images, bf16=False)
    got = passed(nn.Sequential(quick, nn.ReLU(inplace=True)), images, bf16=True)
    for exact, rough in zip(wanted, got, strict=True):
        assert (rough - exact).norm() < 0.05 * exact.norm()  # some signs turn


@pytest.mark.parametrize("stride", [1, 2])
def test_maps_of_one_pixel_are_sound_in_bf16(monkeypatch, stride):
    """Torch's own bf16 gradient reads memory there that nobody has written, so it is kept in fp32."""
    seen = shapes_seen(monkeypatch)
    quick, plain = (nn.Sequential(nn.Conv2d(64, 96, 3, stride, padding=1)) for _ in range(2))
    quicken_small_maps(quick)
    assert keep_in_fp32(quick, (1, 1), 64) == []
    assert keep_in_fp32(plain, (1, 1), 64) == ["0"]
    images = torch.randn(16, 64, 2, 2)[:, :, 1:, 1:]  # neither layout's strides
    wanted = passed(plain, images, bf16=True)
    quick.load_state_dict(plain.state_dict())
    for _ in range(20):
        litter = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for size in (64, 1000, 20000, 300000)]
        del litter  # the allocator hands it out again, unwritten
        quick.zero_grad()
        for exact, rough in zip(wanted, passed(quick, images, bf16=True), strict=True):
            assert (rough - exact).norm() < 0.01 * exact.norm()
    assert set(seen) == {(16, 64, 1, 1)}


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", (60, 80)), ("resnet26", (64, 64)), ("mobilenetv3_small_050", (32, 32))]
)
def test_a_network_has_the_gradients_that_it_had(name, size):
    torch.manual_seed(0)
    plain = build_backbone(Backbone(name=name), 5, size, 3).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    assert quicken_small_maps(quick)

    def gradients(model: nn.Module, *, bf16: bool) -> list[torch.Tensor]:
        model.train()
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            images = torch.rand(8, 3, *size, generator=torch.Generator().manual_seed(2))
            logits = model(images.contiguous(memory_format=torch.channels_last))
        functional.cross_entropy(logits.float(), torch.arange(8) % 5).backward()
        return [parameter.grad for parameter in model.parameters()]

    exact, rough = gradients(copy.deepcopy(plain), bf16=False), gradients(plain, bf16=True)
    for wanted, torchs, ours in zip(exact, rough, gradients(quick, bf16=True), strict=True):
        assert (ours - wanted).norm() < 2.0 * (torchs - wanted).norm() + 0.02 * wanted.norm() + 1e-6


@pytest.mark.parametrize(("compiles", "quick"), [(False, True), (True, False)])
def test_a_trial_on_a_cpu_has_them_unless_it_is_compiled(monkeypatch, compiles, quick):
    monkeypatch.setattr("trainable.state.compiled", lambda model: model)
    images, labels = np.zeros((8, 16, 16, 3), dtype=np.uint8), np.arange(8) % 2
    dataset = ImageDataset(images, labels, ("a", "b"), "zeros", "zeros", np.zeros(8, dtype=np.int8))
    config = TrialConfig.model_validate(
        {"backbone": "resnet10t", "training": {"precision": "bf16", "compile": compiles}}
    )
    split = Split(np.arange(4), np.arange(4, 8), np.arange(0))
    trial = TrialState(config, dataset, split, torch.device("cpu"))
    assert any(isinstance(module, SmallMapConv2d) for module in trial.model.modules()) == quick

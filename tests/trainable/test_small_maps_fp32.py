"""In fp32 products of matrices are the same convolutions, on the processors where they are faster."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.trainable.test_small_maps import passed, shapes_seen
from trainable import narrow_maps, processor, small_map_ways, small_maps
from trainable.backbones import build_backbone
from trainable.config import Backbone
from trainable.precision import keep_in_fp32
from trainable.small_map_ways import Ways, is_linear, ways_in_fp32
from trainable.small_maps import quicken_small_maps

pytestmark = pytest.mark.usefixtures("products_everywhere")
WAYS = [
    # images, output channels, stride
    ((128, 512, 2, 3), 512, 1, ("narrow", "narrow", "taps")),
    ((128, 128, 2, 2), 128, 1, ("narrow", "narrow", "taps")),
    ((32, 128, 2, 2), 128, 1, ("torch", "torch", "torch")),
    ((128, 128, 3, 3), 128, 1, ("torch", "torch", "torch")),
    ((4, 256, 3, 3), 256, 1, ("product", "torch", "product")),
    ((4, 512, 2, 3), 512, 1, ("product", "product", "product")),
    ((32, 512, 4, 4), 512, 1, ("product", "product", "taps")),
    ((32, 512, 4, 5), 512, 1, ("product", "torch", "taps")),
    ((128, 256, 3, 3), 256, 1, ("product", "torch", "taps")),
    ((128, 256, 4, 5), 256, 1, ("torch", "torch", "taps")),
    ((128, 512, 6, 6), 512, 1, ("torch", "torch", "taps")),
    ((128, 512, 8, 8), 512, 1, ("torch", "torch", "torch")),
    ((128, 256, 7, 8), 512, 2, ("product", "strided", "product")),
    ((128, 256, 8, 10), 512, 2, ("product", "torch", "product")),
    ((128, 128, 6, 6), 256, 2, ("product", "torch", "product")),
    ((128, 64, 6, 6), 128, 2, ("torch", "torch", "torch")),
    ((128, 64, 8, 8), 128, 2, ("torch", "torch", "torch")),
    ((128, 32, 2, 2), 512, 1, ("torch", "torch", "torch")),
]


@pytest.mark.parametrize(("images", "out_channels", "stride", "wanted"), WAYS)
def test_weights_and_output_pixels_decide(images, out_channels, stride, wanted):
    assert ways_in_fp32(stride, out_channels, torch.Size(images)) == Ways(*wanted)


@pytest.mark.parametrize(
    ("images", "out_channels", "wanted"),
    [
        ((128, 512, 4, 5), 2048, True),
        ((128, 16, 8, 8), 64, True),
        ((128, 64, 8, 10), 64, False),
        ((8, 64, 15, 20), 64, True),
    ],
)
def test_a_1x1_kernel_is_a_linear_layer_over_few_pixels_or_with_little_to_do(images, out_channels, wanted):
    assert is_linear(out_channels, torch.Size(images)) is wanted


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "size", "ways"),
    [
        (3, 1, (2, 3), ("narrow", "narrow", "taps")),
        (3, 1, (4, 5), ("product", "product", "taps")),
        (3, 1, (3, 4), ("product", "product", "product")),
        (3, 1, (5, 4), ("torch", "torch", "taps")),
        (3, 1, (4, 4), ("torch", "product", "torch")),
        (3, 1, (3, 3), ("product", "torch", "torch")),
        (3, 2, (4, 6), ("product", "strided", "product")),
        (3, 2, (5, 7), ("torch", "strided", "torch")),
        (3, 2, (5, 5), ("torch", "torch", "product")),
    ],
)
def test_whatever_the_ways_outputs_and_gradients_are_torchs(kernel, stride, size, ways, bias, monkeypatch):
    monkeypatch.setattr(small_map_ways, "ways_in_fp32", lambda *given: Ways(*ways))
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 96, kernel, stride, kernel // 2, bias=bias).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=torch.channels_last)
    wanted, got = passed(conv, images, bf16=False), passed(quick, images, bf16=False)
    for one, two in zip(wanted, got, strict=True):
        assert two.shape == one.shape
        assert torch.allclose(two, one, rtol=1e-4, atol=1e-4)
    assert quick.weight.grad.stride() == conv.weight.grad.stride()
    with torch.no_grad():
        assert torch.allclose(quick(images), wanted[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [(8, 24), (64, 128)])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (9, 8)])
def test_a_linear_layer_of_each_pixel_is_the_1x1_convolution(size, channels, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(*channels, 1, bias=bias).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, channels[0], *size).contiguous(memory_format=torch.channels_last)
    wanted = passed(nn.Sequential(conv, nn.ReLU()), images, bf16=False)
    got = passed(nn.Sequential(quick, nn.ReLU(inplace=True)), images, bf16=False)
    for one, two in zip(wanted, got, strict=True):
        assert two.shape == one.shape
        assert torch.allclose(two, one, rtol=1e-4, atol=1e-4)
    assert quick(images).is_contiguous(memory_format=torch.channels_last)
    assert quick.weight.grad.is_contiguous(memory_format=torch.channels_last)


def test_a_layer_takes_the_ways_that_were_measured(monkeypatch):
    calls = []
    for name in ("convolved", "image_gradient", "weight_gradient", "strided_image_gradient"):
        call = getattr(narrow_maps, name)
        monkeypatch.setattr(
            narrow_maps, name, lambda *given, call=call, name=name: calls.append(name) or call(*given)
        )
    monkeypatch.setattr(small_map_ways, "FP32_WORTH", 0)
    seen = shapes_seen(monkeypatch)
    narrow, strided = nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(256, 512, 3, 2, padding=1)
    quicken_small_maps(nn.Sequential(narrow, strided))
    passed(narrow, torch.randn(2, 64, 2, 2).contiguous(memory_format=torch.channels_last), bf16=False)
    assert calls == ["convolved", "image_gradient", "weight_gradient"]
    passed(strided, torch.randn(2, 256, 4, 4).contiguous(memory_format=torch.channels_last), bf16=False)
    assert calls[3:] == ["strided_image_gradient"]
    assert seen == [(2, 256, 4, 4)]  # once: the columns are kept for the gradient of the weights
    passed(narrow, torch.randn(2, 64, 2, 2), bf16=False)  # a contiguous network stays so
    assert len(calls) == 4


def test_only_a_processor_that_was_measured_takes_them(monkeypatch):
    monkeypatch.setattr(small_maps, "is_intel_avx512", lambda: False)
    conv = nn.Conv2d(64, 64, 3, padding=1)
    plain = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(conv, nn.Conv2d(8, 8, 1))) == ["0"]  # for bf16
    images = torch.randn(2, 64, 2, 2).contiguous(memory_format=torch.channels_last)
    for one, two in zip(passed(conv, images, bf16=False), passed(plain, images, bf16=False), strict=True):
        assert torch.equal(one, two)


def test_one_that_has_fp32_products_alone_keeps_maps_of_one_pixel_in_fp32(monkeypatch):
    """Torch's bf16 gradient is wrong there, and nothing takes its place."""
    monkeypatch.setattr(small_maps, "_supports", lambda instructions: instructions == "amx_tile")
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    assert quicken_small_maps(model) == ["0"]
    assert model[0].formats == (torch.float32,)
    assert keep_in_fp32(model, (1, 1), 64) == ["0"]
    plain = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    plain.load_state_dict(model.state_dict())
    images = torch.randn(128, 64, 1, 1)
    wanted, got = passed(plain, images, bf16=False), passed(model, images, bf16=True)
    for one, two in zip(wanted, got, strict=True):
        assert torch.allclose(two, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10t", (60, 80)), ("resnet18", (40, 40)), ("mobilenetv3_small_050", (32, 32))]
)
def test_a_network_has_the_gradients_that_it_had(name, size):
    torch.manual_seed(0)
    plain = build_backbone(Backbone(name=name), 5, size, 3).to(memory_format=torch.channels_last).double()
    exact = copy.deepcopy(plain)
    plain.float()
    quick = copy.deepcopy(plain)
    assert quicken_small_maps(quick)

    def gradients(model: nn.Module) -> list[torch.Tensor]:
        model.train()
        torch.manual_seed(1)
        images = torch.rand(8, 3, *size, generator=torch.Generator().manual_seed(2))
        images = images.to(next(model.parameters()).dtype).contiguous(memory_format=torch.channels_last)
        functional.cross_entropy(model(images), torch.arange(8) % 5).backward()
        return [parameter.grad.double() for parameter in model.parameters()]

    wanted, torchs, ours = gradients(exact), gradients(plain), gradients(quick)
    scale = max(one.norm() for one in wanted)
    for true, one, two in zip(wanted, torchs, ours, strict=True):
        assert (two - true).norm() < 3.0 * (one - true).norm() + 1e-5 * true.norm() + 1e-7 * scale


def test_the_processor_is_what_linux_says(monkeypatch, tmp_path):
    said = {"vendor_id": "GenuineIntel", "model name": "A processor"}
    for known in (processor.model_name, processor.is_intel_avx512):
        known.cache_clear()
    monkeypatch.setattr(processor, "_said", lambda what: said[what])
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    assert processor.model_name() == "A processor"
    assert processor.is_intel_avx512()
    for name, value in (("vendor_id", "AuthenticAMD"), ("capability", "AVX2"), ("mkl", False)):
        processor.is_intel_avx512.cache_clear()
        with monkeypatch.context() as other:
            if name == "capability":
                other.setattr("torch.backends.cpu.get_cpu_capability", lambda value=value: value)
            elif name == "mkl":
                other.setattr("torch.backends.mkl.is_available", lambda value=value: value)
            else:
                other.setitem(said, name, value)
            assert not processor.is_intel_avx512()
    for known in (processor.model_name, processor.is_intel_avx512):
        known.cache_clear()


def test_nothing_is_linear_where_ways_are_torchs(monkeypatch):
    """A strided 1x1 convolution was not measured in fp32."""
    conv = nn.Conv2d(64, 64, 1, 2)
    plain = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(conv)) == ["0"]
    images = torch.randn(2, 64, 4, 4).contiguous(memory_format=torch.channels_last)
    for one, two in zip(passed(conv, images, bf16=False), passed(plain, images, bf16=False), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_image_without_a_batch_is_torchs(kernel):
    conv = nn.Conv2d(512, 512, kernel, padding=kernel // 2)
    plain = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(conv)) == ["0"]
    image = torch.randn(512, 3, 2).transpose(1, 2)  # in neither layout
    assert torch.equal(conv(image), plain(image))

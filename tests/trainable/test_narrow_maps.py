"""Convolutions over maps with a side of one or two pixels are the same convolutions, as matrix products."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.trainable.test_small_maps import passed
from trainable import narrow_maps, small_map_ways, small_maps
from trainable.backbones import build_backbone
from trainable.config import Backbone
from trainable.precision_choice import faster_precision
from trainable.small_map_ways import Ways, ways_in_bf16
from trainable.small_maps import quicken_small_maps

NARROW = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2), (1, 6), (6, 1)]


def gradients(images: Tensor, weight: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Return torch's own gradients of images and weight."""
    return torch.autograd.grad(functional.conv2d(images, weight, None, 1, 1), (images, weight), upstream)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [*NARROW, (2, 5), (9, 1)])
def test_convolution_and_gradients_are_torchs(size, layout):
    torch.manual_seed(0)
    images = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.randn(3, 7, *size, dtype=torch.float64)
    of_images, of_weight = gradients(images, weight, upstream)
    with torch.no_grad():
        for bias in (None, torch.randn(7, dtype=torch.float64)):
            found = narrow_maps.convolved(images, weight, bias)
            assert torch.allclose(found, functional.conv2d(images, weight, bias, 1, 1))
            assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(narrow_maps.image_gradient(upstream, weight), of_images)
        assert torch.allclose(narrow_maps.weight_gradient(upstream, images), of_weight)


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (1, 20), (5, 2)])
def test_the_gradient_of_a_kernel_is_torchs_over_maps_of_any_size(size):
    torch.manual_seed(0)
    images = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 7, *size, dtype=torch.float64)
    wanted = gradients(images, weight, upstream)[1]
    assert torch.allclose(narrow_maps.weight_gradient(upstream, images.detach()), wanted)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 3), (4, 5), (5, 4), (6, 6), (1, 7)]
)
def test_the_images_gradient_with_a_stride_of_two_is_torchs(size, layout):
    torch.manual_seed(0)
    images = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64).contiguous(memory_format=layout)
    convolved = functional.conv2d(images, weight, None, 2, 1)
    upstream = torch.randn_like(convolved).contiguous(memory_format=layout)
    of_images = torch.autograd.grad(convolved, images, upstream)[0]
    with torch.no_grad():
        found = narrow_maps.strided_image_gradient(upstream, weight, size)
        assert torch.allclose(found, of_images)
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("products_everywhere")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("size", "taken"), [((4, 5), True), ((2, 2), True), ((6, 6), True), ((7, 8), False)])
def test_a_layer_with_a_stride_of_two_and_enough_to_do_takes_it(size, taken, bias, monkeypatch):
    monkeypatch.setattr(small_map_ways, "STRIDED_WORTH", 6 * 64 * 96)
    calls, call = [], narrow_maps.strided_image_gradient
    monkeypatch.setattr(narrow_maps, "strided_image_gradient", lambda *given: calls.append(1) or call(*given))
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 96, 3, 2, padding=1, bias=bias).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=torch.channels_last)
    wanted, got = passed(conv, images, bf16=False), passed(quick, images, bf16=True)
    for exact, rough in zip(wanted, got, strict=True):
        assert (rough - exact).norm() < 0.01 * exact.norm()
    assert quick.weight.grad.stride() == quick.weight.stride()
    assert bool(calls) is taken


@pytest.mark.usefixtures("products_everywhere")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [*NARROW, (4, 5), (3, 3)])
def test_a_layer_with_enough_channels_and_images_takes_them(size, bias, monkeypatch):
    """Their number is lowered for the test, so that it is quick."""
    monkeypatch.setattr(small_map_ways, "WORTH", 6 * 64 * 96)
    calls = []
    for name in ("convolved", "image_gradient", "weight_gradient"):
        call = getattr(narrow_maps, name)
        monkeypatch.setattr(
            narrow_maps, name, lambda *given, call=call, name=name: calls.append(name) or call(*given)
        )
    monkeypatch.setattr(small_maps, "unfolded", None)  # nothing is
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 96, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(conv)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=torch.channels_last)
    wanted, got = passed(conv, images, bf16=False), passed(quick, images, bf16=True)
    for exact, rough in zip(wanted, got, strict=True):
        assert rough.shape == exact.shape
        assert (rough - exact).norm() < 0.01 * exact.norm()
    assert quick.weight.grad.stride() == quick.weight.stride()
    narrow = size in NARROW
    assert calls == (["convolved", "image_gradient", "weight_gradient"] if narrow else ["weight_gradient"])


@pytest.mark.usefixtures("products_everywhere")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", NARROW)
def test_what_follows_may_overwrite_the_output(size, bias, monkeypatch):
    monkeypatch.setattr(small_map_ways, "WORTH", 0)
    torch.manual_seed(0)
    quick = nn.Conv2d(64, 64, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    assert quicken_small_maps(nn.Sequential(quick)) == ["0"]
    images = torch.randn(6, 64, *size).contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(quick)
    wanted = passed(nn.Sequential(twin, nn.ReLU()), images, bf16=True)
    got = passed(nn.Sequential(quick, nn.ReLU(inplace=True)), images, bf16=True)
    for one, two in zip(wanted, got, strict=True):
        assert torch.equal(one, two)


@pytest.mark.usefixtures("products_everywhere")
def test_a_network_without_norms_trains():
    """Its activations overwrite what the convolutions return; 32 images are what `precision: auto` times."""
    torch.manual_seed(0)
    model = build_backbone(Backbone(name="vgg11"), 5, (32, 32), 3).to(memory_format=torch.channels_last)
    assert quicken_small_maps(model)
    images = torch.randn(32, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    assert faster_precision(model, (32, 32), 3, 0.95) in ("bf16", "fp32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images).float().square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("images", "out_channels", "stride", "wanted"),
    [
        ((128, 512, 2, 3), 512, 1, ("narrow", "narrow", "taps")),
        ((128, 256, 2, 3), 256, 1, ("narrow", "narrow", "taps")),
        ((64, 256, 2, 3), 256, 1, ("torch", "torch", "product")),
        ((128, 256, 2, 4), 256, 1, ("torch", "torch", "taps")),
        ((128, 256, 3, 3), 256, 1, ("torch", "torch", "taps")),
        ((128, 256, 2, 6), 256, 2, ("product", "torch", "product")),  # three pixels: as any small map
        ((128, 256, 2, 6), 512, 2, ("product", "strided", "product")),
        ((128, 256, 2, 10), 256, 2, ("torch", "torch", "product")),
    ],
)
def test_narrow_maps_with_enough_to_do_are_products_in_bf16(images, out_channels, stride, wanted):
    assert ways_in_bf16(3, stride, out_channels, torch.Size(images)) == Ways(*wanted)

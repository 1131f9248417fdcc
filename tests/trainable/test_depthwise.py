"""The faster gradient of depthwise kernels is the gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from trainable import depthwise
from trainable.backbones import build_backbone
from trainable.backbones.cost import count_flops
from trainable.config import Backbone
from trainable.depthwise import DepthwiseConv2d, quicken_depthwise

GEOMETRIES = [
    (7, 1, (9, 12)),
    (7, 1, (7, 7)),
    (7, 1, (15, 20)),
    (7, 1, (8, 2)),  # narrower than the kernel
    (7, 1, (8, 1)),
    (9, 1, (11, 10)),
    (11, 1, (12, 13)),
    (13, 1, (13, 6)),
    (7, 1, (4, 5)),  # lower than the kernel: pairs of pixels
    (7, 1, (1, 2)),
    (7, 1, (1, 1)),
    (7, 2, (7, 8)),
    (7, 2, (6, 5)),
    (7, 2, (17, 20)),  # torch's own
    (7, 1, (4, 30)),
]


def both(conv: nn.Conv2d, images: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """Return output and gradients of torch's convolution and of the quick one."""
    quick = copy.deepcopy(conv)
    assert quicken_depthwise(nn.Sequential(quick)) == ["0"]
    found = []
    for layer in (conv, quick):
        given = images.clone().requires_grad_()
        out = layer(given)
        upstream = torch.rand(out.shape, generator=torch.Generator().manual_seed(1)) - 0.5
        (out * upstream).sum().backward()
        gradients = tuple(parameter.grad for parameter in layer.parameters())
        found.append((out.detach(), given.grad, *gradients))
    return found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("kernel", "stride", "size"), GEOMETRIES)
def test_gradients_are_those_of_torch(kernel, stride, size, layout, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6, bias=bias)
    images = torch.randn(4, 6, *size).contiguous(memory_format=layout)
    for wanted, got in zip(*both(conv, images), strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_kernel_of_another_height_is_followed():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, (3, 7), padding=(1, 3), groups=4)
    for wanted, got in zip(*both(conv, torch.randn(3, 4, 9, 11)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_every_way_is_taken_by_one_of_the_geometries(monkeypatch):
    taken = set()
    for name in ("_by_columns", "_by_pairs", "torchs_gradient"):
        monkeypatch.setattr(depthwise, name, lambda *_, name=name, **__: taken.add(name))
    for kernel, stride, size in GEOMETRIES:
        out = [(length - 1) // stride + 1 for length in size]
        depthwise.weight_gradient(
            torch.empty(3, 2, *out),
            torch.empty(3, 2, *size),
            torch.empty(2, 1, kernel, kernel),
            (stride, stride),
            (kernel // 2, kernel // 2),
        )
    assert taken == {"_by_columns", "_by_pairs", "torchs_gradient"}


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 5, padding=2, groups=4),  # torch's is fast enough
        nn.Conv2d(4, 8, 7, padding=3, groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=2),
        nn.Conv2d(1, 1, 7, padding=3),
        nn.Conv2d(4, 4, 7, padding=1, groups=4),
        nn.Conv2d(4, 4, 8, padding=4, groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, dilation=2),
        nn.Conv2d(4, 4, 7, padding="same", groups=4),
        nn.Conv2d(4, 4, 7, padding=3, groups=4, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_left_alone(conv):
    model = nn.Sequential(conv)
    assert quicken_depthwise(model) == []
    assert type(model[0]) is nn.Conv2d


def test_copies_stay_quick_and_weights_keep_their_names():
    conv = nn.Conv2d(4, 4, 7, padding=3, groups=4)
    model = nn.Sequential(conv)
    names = list(model.state_dict())
    assert quicken_depthwise(model) == ["0"]
    assert quicken_depthwise(model) == []
    twin = copy.deepcopy(model)
    assert isinstance(twin[0], DepthwiseConv2d)
    assert list(twin.state_dict()) == names
    twin(torch.rand(2, 4, 6, 6)).sum().backward()
    assert conv.weight.grad is None


def test_under_autocast_it_computes_in_fp32():
    conv = nn.Conv2d(4, 4, 7, padding=3, groups=4)
    images = torch.rand(2, 4, 6, 6)
    wanted = conv(images)
    quicken_depthwise(nn.Sequential(conv))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = conv(images)
    assert torch.equal(out, wanted)
    out.sum().backward()
    assert conv.weight.grad.dtype == torch.float32


def test_a_backward_pass_under_autocast_is_no_rougher():
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 4, 7, padding=3, groups=4)
        quicken_depthwise(nn.Sequential(conv))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            conv(torch.rand(3, 4, 4, 4)).square().sum().backward()
        gradients.append(conv.weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("size", [(9, 9), (3, 3)])
def test_gradients_are_exact_in_double_precision_and_of_no_images(size):
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 2, 7, padding=3, groups=2).double()
    quicken_depthwise(nn.Sequential(conv))
    images = torch.rand(2, 2, *size, dtype=torch.float64, requires_grad=True)
    leaves = (images, conv.weight, conv.bias)
    assert torch.autograd.gradcheck(lambda given, *_: conv(given), leaves)
    conv.zero_grad()
    conv(torch.rand(0, 2, *size, dtype=torch.float64)).sum().backward()
    assert not conv.weight.grad.any()


@pytest.mark.parametrize(("available", "machine"), [(False, "x86_64"), (True, "arm64")])
def test_where_it_was_not_measured_nothing_is_changed(monkeypatch, available, machine):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert quicken_depthwise(nn.Sequential(nn.Conv2d(4, 4, 7, padding=3, groups=4))) == []


def test_images_that_need_no_gradient_get_none():
    conv = nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False)
    quicken_depthwise(nn.Sequential(conv))
    images = torch.rand(2, 4, 6, 6)
    conv(images).sum().backward()
    assert images.grad is None
    conv.weight.requires_grad_(False)
    given = images.requires_grad_()
    conv.weight.grad = None
    conv(given).sum().backward()
    assert conv.weight.grad is None
    assert given.grad is not None


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_femto"])
def test_a_network_has_the_gradients_that_it_had(name):
    torch.manual_seed(0)
    plain = build_backbone(Backbone(name=name), 5, (32, 40), 3).to(memory_format=torch.channels_last)
    quick = copy.deepcopy(plain)
    assert quicken_depthwise(quick)
    assert count_flops(quick, (32, 40), 3) == count_flops(plain, (32, 40), 3) > 0
    images = torch.rand(4, 3, 32, 40)
    for model in (plain, quick):
        model.train()
        torch.manual_seed(1)
        functional.cross_entropy(model(images), torch.arange(4)).backward()
    for (key, one), (_, two) in zip(plain.named_parameters(), quick.named_parameters(), strict=True):
        scale = one.grad.abs().max().clamp(min=1e-6)
        assert float((one.grad - two.grad).abs().max() / scale) < 2e-3, key

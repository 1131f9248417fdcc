"""Pooling before ReLU gives the same bits, forward and backward."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from trainable.backbones import build_backbone
from trainable.config import Backbone, TrialConfig
from trainable.cpu_kernels import quicken
from trainable.pool_first import LaterReLU, PoolThenReLU, pool_first


def passed(model: nn.Module, images: torch.Tensor, *, bf16: bool) -> list[torch.Tensor]:
    """Return output, statistics and all gradients of one pass."""
    model.train()
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = model(images)
    out.float().square().mean().backward()
    return [out.detach(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]


def stack() -> nn.Sequential:
    """A stack that pools twice, the second time after another activation."""
    first = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(*first, nn.Conv2d(8, 8, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten())


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet10t", ["maxpool"]),
        ("seresnet18", ["maxpool"]),
        ("torchvision:resnet18", ["maxpool"]),
        ("torchvision:squeezenet1_1", ["features.2"]),
        ("vgg11_bn", ["features.3", "features.7", "features.14", "features.21", "features.28"]),
    ],
)
def test_networks_compute_the_same_bits(name, found, bf16):
    torch.manual_seed(0)
    plain = build_backbone(Backbone(name=name, small_stem_up_to=0), 5, (64, 64), 3).to(
        memory_format=torch.channels_last
    )
    quick = copy.deepcopy(plain)
    assert pool_first(quick) == found
    assert pool_first(quick) == []
    assert list(quick.state_dict()) == list(plain.state_dict())
    images = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    for one, two in zip(passed(plain, images, bf16=bf16), passed(quick, images, bf16=bf16), strict=True):
        assert torch.equal(one, two)


def test_what_reads_a_relu_sees_its_output():
    model = stack()
    read: list[torch.Tensor] = []
    model[1].register_forward_hook(lambda module, inputs, output: read.append(output.clone()))
    images = torch.randn(2, 3, 9, 9)
    wanted = model(images)
    assert pool_first(model) == ["2"]
    assert torch.equal(model(images), wanted)
    assert torch.equal(read[0], read[1])
    assert (read[1] >= 0.0).all()


def test_ties_infinite_and_missing_numbers_go_where_they_went():
    plain = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    quick = copy.deepcopy(plain)
    assert pool_first(quick) == ["1"]
    windows = [
        [1, 1, 0, -1],
        [-1, -2, -3, -4],
        [0, -0.0, -1, 0],
        [float("inf"), 1, 2, 3],
        [float("nan"), 1, 2, 3],
    ]
    found = []
    for model in (plain, quick):
        maps = torch.tensor(windows).view(5, 1, 2, 2).requires_grad_()
        out = model(maps)
        out.sum().backward()
        found.append((out.detach(), maps.grad))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one.nan_to_num(nan=-7.0), two.nan_to_num(nan=-7.0))


def test_only_a_relu_of_its_own_before_a_plain_pooling_is_moved():
    shared = nn.ReLU()
    assert pool_first(nn.Sequential(shared, nn.MaxPool2d(2), nn.Conv2d(1, 1, 1), shared, nn.AvgPool2d(2))) == []
    assert pool_first(nn.Sequential(nn.ReLU6(), nn.MaxPool2d(2))) == []
    assert pool_first(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True))) == []
    assert pool_first(nn.ModuleList((nn.ReLU(), nn.MaxPool2d(2)))) == []


@pytest.mark.parametrize(("compiles", "moved"), [(False, True), (True, False)])
def test_a_network_on_a_cpu_pools_first_unless_it_is_compiled(compiles, moved):
    config = TrialConfig.model_validate(
        {"backbone": {"name": "resnet10t", "small_stem_up_to": 32}, "training": {"compile": compiles}}
    )
    model = build_backbone(config.backbone, 5, (64, 64), 3)
    quicken(model, config)
    kinds = {type(module) for module in model.modules()}
    assert ({LaterReLU, PoolThenReLU} <= kinds) is moved

"""Means over pixels are torch's, and their gradients lie as the images do."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from timm.layers import EffectiveSEModule, SEModule
from timm.layers.adaptive_avgmax_pool import FastAdaptiveAvgPool
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from trainable.backbones import Backbone, build_backbone
from trainable.config import TrialConfig
from trainable.cpu_kernels import quicken
from trainable.laid_out_mean import LAID_OUT, lay_out_means

CHANNELS_LAST = torch.channels_last

MODULES = {
    "global pooling": lambda: nn.AdaptiveAvgPool2d(1),
    "global pooling, both": lambda: nn.AdaptiveAvgPool2d((1, 1)),
    "timm's pooling": lambda: FastAdaptiveAvgPool(),
    "timm's pooling, flat": lambda: FastAdaptiveAvgPool(flatten=True),
    "squeeze and excite": lambda: SqueezeExcite(24),
    "squeeze and excitation": lambda: SEModule(24),
    "squeeze and excitation, and maxima": lambda: SEModule(24, add_maxpool=True),
    "effective": lambda: EffectiveSEModule(24),
}


def passed(module: nn.Module, dtype: torch.dtype, layout: torch.memory_format) -> list[Tensor]:
    """Return the output and all gradients; the images' gradient comes first."""
    numbers = torch.Generator().manual_seed(1)
    images = torch.randn(4, 24, 5, 3, generator=numbers).to(dtype).contiguous(memory_format=layout)
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        out = module(images)
    upstream = torch.randn(out.shape, generator=numbers).to(out)
    if out.dim() == 4:
        upstream = upstream.contiguous(memory_format=layout)
    return [*torch.autograd.grad(out, (images, *module.parameters()), upstream), out]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [CHANNELS_LAST, torch.contiguous_format])
@pytest.mark.parametrize("name", MODULES)
def test_everything_is_torchs_to_the_bit(name, layout, dtype):
    torch.manual_seed(0)
    plain = nn.Sequential(MODULES[name]())
    quick = copy.deepcopy(plain)
    assert lay_out_means(quick) == ["0"]
    for one, other in zip(passed(plain, dtype, layout), passed(quick, dtype, layout), strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", MODULES)
def test_the_gradient_lies_as_the_images_do(name):
    module = MODULES[name]()
    lay_out_means(nn.Sequential(module))
    assert passed(module, torch.float32, CHANNELS_LAST)[0].is_contiguous(memory_format=CHANNELS_LAST)


def test_torchs_own_gradient_of_a_mean_does_not():
    """Else nothing of this would be needed."""
    given = passed(nn.AdaptiveAvgPool2d(1), torch.float32, CHANNELS_LAST)[0]
    assert not given.is_contiguous(memory_format=CHANNELS_LAST)


@pytest.mark.parametrize("size", [2, (1, 2), (None, 1)])
def test_pooling_to_more_than_a_pixel_stays(size):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(size))
    assert lay_out_means(model) == []
    assert type(model[0]) is nn.AdaptiveAvgPool2d


def test_an_image_without_a_batch_is_pooled():
    pool = nn.AdaptiveAvgPool2d(1)
    image = torch.randn(3, 4, 5)
    expected = pool(image)
    lay_out_means(nn.Sequential(pool))
    assert torch.equal(pool(image), expected)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_laid_out_too(copied):
    model = nn.Sequential(SqueezeExcite(24))
    lay_out_means(model)
    assert type(copied(model)[0]) is LAID_OUT[SqueezeExcite]


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_050", "resnet10t", "regnety_002", "torchvision:mobilenet_v3_small"]
)
def test_no_batch_norm_of_a_network_gets_a_gradient_laid_out_otherwise(name):
    model = build_backbone(Backbone(name=name), 5, (64, 64), 3).to(memory_format=CHANNELS_LAST).train()
    quicken(model, TrialConfig())
    strangers = []

    def watch(name: str, gradient: Tensor) -> None:
        if gradient.shape[2] * gradient.shape[3] > 1 and not gradient.is_contiguous(
            memory_format=CHANNELS_LAST
        ):
            strangers.append(name)

    def watched(name: str, module: nn.Module, given: object, out: Tensor) -> None:
        out.register_hook(partial(watch, name))

    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(partial(watched, name))
    images = torch.randn(4, 3, 64, 64).contiguous(memory_format=CHANNELS_LAST)
    model(images).square().sum().backward()
    assert strangers == []

"""Batch norm on folded pixels is batch norm."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from trainable import folded_batch_norm
from trainable.backbones import build_backbone
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.folded_batch_norm import FoldedBatchNorm2d, folded_pixels, quicken_batch_norm
from trainable.optimizers.sam import held_batch_norm
from trainable.state import TrialState

CHANNELS_LAST = torch.channels_last


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch):
    """Fold however many threads there are, and small maps too."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(folded_batch_norm, "FEWEST", 0)


def pair(channels: int, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d, **options) -> tuple[nn.Module, nn.Module]:
    """Return torch's batch norm and the same one, quickened."""
    torch.manual_seed(channels)
    norm = kind(channels, **options)
    with torch.no_grad():
        norm.weight.uniform_(-2.0, 2.0)
        norm.bias.normal_()
    quick = copy.deepcopy(norm)
    assert quicken_batch_norm(nn.Sequential(quick)) == ["0"]
    return norm, quick


def trained(norm: nn.Module, images: Tensor, dtype: torch.dtype, sent: str = "noise") -> list[Tensor]:
    """Return the output of a training pass, all gradients and what the module has of the batch afterwards."""
    given = images.to(dtype).contiguous(memory_format=CHANNELS_LAST).requires_grad_()
    out = norm(given)
    noise = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    upstream = {
        "noise": noise,
        "nearly constant": 5.0 + 0.05 * noise,
        "nearly the images": images + 0.1 * noise,
    }
    (out.double() * upstream[sent].to(dtype)).sum().backward()
    left = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
    return [t.detach().double() for t in (out, given.grad, norm.weight.grad, norm.bias.grad, *left)]


@pytest.mark.parametrize("sent", ["noise", "nearly constant", "nearly the images"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "pixels"), [(8, 2), (24, 2), (20, 4), (12, 4), (2, 8), (7, 16), (17, 16)])
def test_training_is_that_of_torch_but_for_rounding(channels, pixels, dtype, sent):
    norm, quick = pair(channels)
    images = torch.randn(8, channels, 6, 4) * torch.linspace(0.2, 3.0, 6)[:, None] + 5.0
    assert folded_pixels(images.contiguous(memory_format=CHANNELS_LAST)) == pixels
    images = images.to(dtype).float()
    exact = trained(copy.deepcopy(norm).double(), images, torch.float64, sent)
    torchs, ours = trained(norm, images, dtype, sent), trained(quick, images, dtype, sent)
    for truth, theirs, mine in zip(exact, torchs, ours, strict=True):
        assert mine.shape == truth.shape
        allowed = 2e-6 if dtype is torch.float32 else 3e-3
        assert (mine - truth).norm() <= max(allowed * truth.norm(), 1.6 * (theirs - truth).norm())


def test_statistics_are_those_of_images_whose_mean_is_far_from_zero():
    """Groups of pixels are put together by their means: squares of large numbers are never subtracted."""
    norm, quick = pair(8)
    images = torch.randn(16, 8, 4, 4) * 0.01 + 300.0
    truth = images.double().var((0, 2, 3))
    trained(norm, images, torch.float32), trained(quick, images, torch.float32)
    for module in (norm, quick):
        assert torch.allclose((module.running_var.double() - 0.9) / 0.1, truth, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_follow_several_batches(momentum):
    norm, quick = pair(24, momentum=momentum)
    for _ in range(3):
        images = torch.randn(4, 24, 4, 4)
        trained(norm, images, torch.float32), trained(quick, images, torch.float32)
    assert quick.num_batches_tracked == norm.num_batches_tracked == 3
    assert torch.allclose(quick.running_mean, norm.running_mean, atol=1e-6)
    assert torch.allclose(quick.running_var, norm.running_var, rtol=1e-5)


def test_held_statistics_are_not_touched():
    norm, quick = pair(8)
    before, images = copy.deepcopy(quick.state_dict()), torch.randn(4, 8, 4, 4)
    with held_batch_norm(quick), held_batch_norm(norm):
        for theirs, mine in zip(*(trained(m, images, torch.float32) for m in (norm, quick)), strict=True):
            assert torch.allclose(theirs, mine, atol=1e-5)
    assert all(torch.equal(quick.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.Hardswish])
def test_activations_that_overwrite_may_follow(activation):
    norm, quick = pair(24, BatchNormAct2d, act_layer=activation)
    images = torch.randn(4, 24, 4, 4)
    for theirs, mine in zip(*(trained(m, images, torch.float32) for m in (norm, quick)), strict=True):
        assert torch.allclose(theirs, mine, atol=2e-5)


def test_evaluation_and_gradients_to_weights_alone_are_torchs():
    norm, quick = pair(8)
    images = torch.randn(4, 8, 4, 4).contiguous(memory_format=CHANNELS_LAST)
    assert torch.equal(norm.eval()(images), quick.eval()(images))
    norm.train()(images).square().sum().backward()  # images of the data need no gradient
    quick.train()(images).square().sum().backward()
    assert torch.allclose(norm.weight.grad, quick.weight.grad, rtol=1e-5)


def test_only_what_folds_is_folded():
    def lying(*shape: int) -> Tensor:
        return torch.zeros(shape).contiguous(memory_format=CHANNELS_LAST)

    assert folded_pixels(lying(4, 8, 3, 3)) == 2
    assert folded_pixels(lying(4, 32, 3, 3)) == 0  # lines are full
    assert folded_pixels(lying(3, 8, 3, 3)) == 0  # 27 pixels have no halves
    assert folded_pixels(torch.zeros(4, 8, 3, 3)) == 0  # another layout
    model = nn.Sequential(
        nn.BatchNorm2d(32), nn.BatchNorm2d(8, affine=False), nn.BatchNorm2d(8), nn.BatchNorm2d(72)
    )
    assert quicken_batch_norm(model) == ["2"]
    assert quicken_batch_norm(model) == []


def test_small_maps_stay_torchs_and_one_thread_folds_the_fewest_channels_alone(monkeypatch):
    def lying(channels: int) -> Tensor:
        return torch.zeros(4, channels, 4, 4).contiguous(memory_format=CHANNELS_LAST)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [folded_pixels(lying(channels)) for channels in (8, 12, 24)] == [2, 4, 0]
    monkeypatch.undo()
    assert folded_pixels(lying(8)) == 0


def test_a_trial_trains_with_it_and_its_weights_load_without_it(monkeypatch):
    folded: list[int] = []
    monkeypatch.setattr(
        folded_batch_norm, "folded_pixels", lambda x: folded.append(folded_pixels(x)) or folded[-1]
    )
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    images = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    dataset = ImageDataset(images, labels, tuple("abcd"), "noise", "noise", np.zeros(64, dtype=np.int8))
    config = TrialConfig.model_validate(
        {"backbone": "mobilenetv3_small_050", "batch_size": 16, "averaging": "ema"}
    )
    trial = TrialState(
        config, dataset, Split(np.arange(48), np.arange(48, 64), np.arange(0)), torch.device("cpu")
    )
    norms = [m for m in trial.model.modules() if isinstance(m, FoldedBatchNorm2d)]
    assert len(norms) == 6
    folded.clear()  # the number format has been chosen
    for batch in trial.batches.train(trial.begin_epoch(0), 0):
        trial.stepper(batch.mixed)
        trial.averager.after_step()
    assert all(norm.num_batches_tracked == 3 for norm in norms)
    assert isinstance(copy.deepcopy(norms[0]), FoldedBatchNorm2d)
    assert folded == 3 * len(norms) * [2]
    plain = build_backbone(config.backbone, 4, (32, 32), 3)
    plain.load_state_dict(trial.model.state_dict())
    batch = next(trial.batches.evaluate(np.arange(8))).images
    wanted, got = plain.eval()(batch), trial.model.eval()(batch)  # in the thousands; layers round otherwise
    assert (got - wanted).norm() < 1e-4 * wanted.norm()

"""SAM's climb by hand, its way back, and the batch norms that it holds."""

import math

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from trainable.optimizers import OPTIMIZERS, SharpnessAware, held_batch_norm


def quadratic(base: str = "sgd", **fields: object) -> tuple[nn.Parameter, nn.Parameter, SharpnessAware]:
    """f(a, b) = a² + 2 b² at a = 3, b = (2): gradients 6 and 8, norm 10."""
    a, b = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([2.0]))
    config = OPTIMIZERS["sam"](base=base, lr=0.1, weight_decay=0.0, **fields)
    return a, b, config.build([{"params": [a], "weight_decay": 0.0}, {"params": [b], "weight_decay": 0.0}])


def backward(a: nn.Parameter, b: nn.Parameter, scale: float = 1.0) -> None:
    (scale * (a.square() + 2 * b.square())).sum().backward()


def test_the_climb_is_rho_along_the_gradient_over_all_groups():
    a, b, sam = quadratic(rho=0.5)
    backward(a, b)
    sam.perturb()
    assert (a.item(), b.item()) == pytest.approx((3 + 0.5 * 0.6, 2 + 0.5 * 0.8))
    assert (a.grad.item(), b.grad.item()) == (6.0, 8.0)


def test_a_whole_step_by_hand():
    a, b, sam = quadratic(rho=0.5, momentum=0.0)
    backward(a, b)
    sam.perturb()
    sam.zero_grad()
    backward(a, b)
    sam.restore()
    sam.step()
    # Gradients at (3.3, 2.4): 6.6 and 9.6; stepped from (3, 2).
    assert (a.item(), b.item()) == pytest.approx((3 - 0.66, 2 - 0.96))


def test_the_adaptive_climb_by_hand():
    a, b, sam = quadratic(rho=0.5, adaptive=True)
    backward(a, b)
    sam.perturb()
    ta, tb = 3.01, 2.01
    norm = math.hypot(ta * 6, tb * 8)
    assert (a.item(), b.item()) == pytest.approx((3 + 0.5 * ta**2 * 6 / norm, 2 + 0.5 * tb**2 * 8 / norm))


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_climb_does_not_depend_on_the_scale_of_gradients(adaptive):
    climbed = []
    for scale in (1.0, 65536.0, 2.0**-10):
        a, b, sam = quadratic(rho=0.5, adaptive=adaptive)
        backward(a, b, scale)
        sam.perturb()
        climbed.append((a.item(), b.item()))
    assert climbed[1] == pytest.approx(climbed[0])
    assert climbed[2] == pytest.approx(climbed[0])


@pytest.mark.parametrize("gradient", [0.0, 1.0, float("inf"), float("nan")])
def test_restore_is_exact_whatever_the_gradient_was(gradient):
    weights = nn.Parameter(torch.randn(1000, generator=torch.Generator().manual_seed(0)))
    before = weights.detach().clone()
    sam = OPTIMIZERS["sam"](rho=0.3).build([{"params": [weights], "weight_decay": 0.0}])
    weights.grad = torch.full_like(weights, gradient)
    sam.perturb()
    assert gradient != 0.0 or torch.equal(weights.detach(), before)
    sam.restore()
    assert torch.equal(weights.detach(), before)


def test_parameters_without_a_gradient_stay():
    a, b, sam = quadratic()
    a.square().sum().backward()
    sam.perturb()
    assert b.item() == 2.0
    sam.restore()
    sam.zero_grad()
    sam.perturb()
    sam.restore()
    assert a.item() == 3.0


@pytest.mark.parametrize("base", ["sgd", "adam", "adamw"])
def test_a_radius_near_zero_is_the_base_itself(base):
    a, b, sam = quadratic(base, rho=1e-12)
    c, d, plain = quadratic(base)
    for _ in range(5):
        sam.zero_grad()
        backward(a, b)
        sam.perturb()
        sam.zero_grad()
        backward(a, b)
        sam.restore()
        sam.step()
        plain.base.zero_grad()
        backward(c, d)
        plain.base.step()
    assert (a.item(), b.item()) == pytest.approx((c.item(), d.item()))


def test_a_forgotten_restore_is_noticed():
    a, b, sam = quadratic()
    backward(a, b)
    sam.perturb()
    with pytest.raises(AssertionError, match="restore"):
        sam.step()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
def test_held_batch_norm_normalises_by_the_batch_and_keeps_its_statistics(kind):
    norm = kind(3)
    images = 5 + 2 * torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    norm(images)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    free = norm(images)
    after = {key: value.clone() for key, value in norm.state_dict().items()}
    norm.load_state_dict(before)
    with held_batch_norm(nn.Sequential(norm)):
        held = norm(images)
        norm(torch.full_like(images, float("nan")))
    assert torch.equal(held, free)
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    assert int(after["num_batches_tracked"]) == 2
    norm(images)
    assert int(norm.num_batches_tracked) == 2


def test_held_batch_norm_leaves_evaluation_alone_and_survives_an_error():
    norm = nn.BatchNorm1d(2).eval()
    images = torch.ones(3, 2) * 7
    with held_batch_norm(norm):
        assert torch.allclose(norm(images), images, atol=1e-3)
    norm.train()
    with pytest.raises(RuntimeError), held_batch_norm(norm):
        raise RuntimeError
    assert norm.track_running_stats

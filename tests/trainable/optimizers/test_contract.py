"""What every optimizer keeps, asked of each that is enrolled."""

import pickle

import optuna
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainable.config import TrialConfig
from trainable.optimizers import OPTIMIZERS, SharpnessAware, held_batch_norm, parameter_groups, set_lr

names = pytest.mark.parametrize("name", OPTIMIZERS.names())


def tiny_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 3, 8, 8, generator=generator), torch.arange(12) % 3


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    images, targets = batch()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images), targets)
    loss.backward()
    if isinstance(optimizer, SharpnessAware):
        optimizer.perturb()
        optimizer.zero_grad()
        with held_batch_norm(model):
            nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.restore()
    optimizer.step()
    return loss.item()


def test_every_optimizer_of_the_list_is_enrolled():
    assert set(OPTIMIZERS.names()) >= {
        "sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "ranger", "sam", "sam_adamw",
    }  # fmt: skip


@names
def test_steps_reduce_the_loss_of_a_fixed_batch(name):
    model = tiny_net()
    optimizer = OPTIMIZERS[name]().build(parameter_groups(model, 1e-4))
    losses = [train_step(model, optimizer) for _ in range(20)]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert losses[-1] < losses[0]


@names
def test_a_step_goes_against_the_gradient(name):
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = OPTIMIZERS[name](lr=1e-3).build([{"params": [weight], "weight_decay": 0.0}])
    # Each filter's mean gradient is 0, so that centralization leaves it as it is.
    weight.grad = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    direction = weight.grad.sign()
    if isinstance(optimizer, SharpnessAware):
        optimizer.perturb()
        optimizer.restore()
    optimizer.step()
    assert torch.equal((weight.detach() - 1.0).sign(), -direction)


@names
def test_lr_and_decay_reach_every_group_and_norms_and_biases_are_spared(name):
    model = tiny_net()
    config = OPTIMIZERS[name](lr=0.01, weight_decay=0.125)
    optimizer = config.build(parameter_groups(model, config.weight_decay))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {n: decay[id(p)] for n, p in model.named_parameters()} == {
        "0.weight": 0.125, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "5.weight": 0.125, "5.bias": 0.0,
    }  # fmt: skip
    assert all(group["lr"] == 0.01 for group in optimizer.param_groups)


@names
def test_decay_shrinks_weights_and_leaves_vectors(name):
    linear = nn.Linear(2, 2)
    nn.init.ones_(linear.weight)
    nn.init.ones_(linear.bias)
    optimizer = OPTIMIZERS[name](lr=1e-3).build(parameter_groups(linear, 0.5))
    for p in linear.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert ((linear.weight > 0.9) & (linear.weight < 1.0)).all()
    assert (linear.bias == 1.0).all()


@names
def test_frozen_parameters_are_left_out(name):
    model = tiny_net()
    model[0].requires_grad_(False)
    groups = parameter_groups(model, 0.1)
    OPTIMIZERS[name]().build(groups)
    assert all(p is not model[0].weight for group in groups for p in group["params"])


@names
def test_set_lr_changes_what_the_next_step_uses(name):
    model = tiny_net()
    optimizer = OPTIMIZERS[name]().build(parameter_groups(model, 0.0))
    train_step(model, optimizer)
    before = [p.detach().clone() for p in model.parameters()]
    set_lr(optimizer, 0.0, momentum=0.85)
    train_step(model, optimizer)
    for p, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old, rtol=0, atol=0)
    for group in optimizer.param_groups:
        assert group.get("momentum", 0.85) == 0.85
        assert group.get("betas", (0.85,))[0] == 0.85


def test_set_lr_switches_no_momentum_on():
    optimizer = torch.optim.RMSprop([nn.Parameter(torch.ones(1))], lr=0.1)
    set_lr(optimizer, 0.2, momentum=0.9)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.2, 0)


@names
def test_config_pickles_is_frozen_and_survives_a_trial_config_in_yaml(name):
    drawn = OPTIMIZERS[name].suggest(
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask(), f"optimizer.{name}"
    )
    assert pickle.loads(pickle.dumps(drawn)) == drawn
    with pytest.raises(ValidationError):
        drawn.lr = 1.0
    config = TrialConfig(optimizer=drawn)
    assert TrialConfig.from_yaml(config.to_yaml()) == config
    assert {"lr", "weight_decay"} <= set(OPTIMIZERS[name].dimensions())
    assert OPTIMIZERS[name].reference


@names
def test_a_scaler_skips_a_step_that_overflowed_and_takes_the_next(name):
    linear = nn.Linear(4, 4)
    optimizer = OPTIMIZERS[name]().build(parameter_groups(linear, 1e-2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for factor, moves in ((1.0, True), (float("inf"), False), (1.0, True)):
        before = linear.weight.detach().clone()
        optimizer.zero_grad()
        scaler.scale(factor * linear(torch.ones(2, 4)).square().mean()).backward()
        if isinstance(optimizer, SharpnessAware):
            optimizer.perturb()
            optimizer.zero_grad()
            scaler.scale(linear(torch.ones(2, 4)).square().mean()).backward()
            optimizer.restore()
        scaler.step(optimizer)
        scaler.update()
        assert torch.isfinite(linear.weight).all()
        assert torch.equal(linear.weight, before) != moves
    assert scaler.get_scale() == 2.0**15

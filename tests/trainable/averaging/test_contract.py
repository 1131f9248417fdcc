"""What every average keeps, asked of each that is enrolled."""

import copy
import io
import pickle

import optuna
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trainable.averaging import AVERAGING
from trainable.config import TrialConfig

names = pytest.mark.parametrize("name", AVERAGING.names())


def tiny_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4, 3),
    )


def images() -> torch.Tensor:
    return torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def drift(model: nn.Module) -> None:
    """Change weights and statistics as a training step would."""
    model.train()
    with torch.no_grad():
        model(images())
        for p in model.parameters():
            p.mul_(1.1).add_(0.01)


def test_every_average_of_the_list_is_enrolled():
    assert set(AVERAGING.names()) >= {"none", "ema", "swa"}


@names
def test_evaluation_leaves_the_training_model_alone(name):
    model = tiny_net()
    averager = AVERAGING[name]().build(model, num_epochs=4, steps_per_epoch=2)
    for epoch in range(4):
        for _ in range(2):
            drift(model)
            averager.after_step()
        before = copy.deepcopy(model.state_dict())
        modes = [m.training for m in model.modules()]
        random = torch.random.get_rng_state()
        averager.after_epoch(epoch, lambda: [images()])
        evaluated = averager.evaluated()
        was_training = evaluated.training
        assert torch.isfinite(evaluated.eval()(images())).all()
        evaluated.train(was_training)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert modes == [m.training for m in model.modules()]
        assert torch.equal(random, torch.random.get_rng_state())


@names
def test_the_evaluated_model_has_the_model_s_own_keys(name):
    model = tiny_net()
    averager = AVERAGING[name]().build(model, 1, 1)
    averager.after_step()
    averager.after_epoch(0, lambda: [images()])
    assert list(averager.evaluated().state_dict()) == list(model.state_dict())


@names
def test_it_restores_exactly_from_a_weights_only_file(name):
    whole, first, second = tiny_net(), tiny_net(), tiny_net()
    config = AVERAGING[name]()
    uninterrupted, before, after = (config.build(m, 4, 1) for m in (whole, first, second))
    for epoch in range(3):
        for model, averager in ((whole, uninterrupted), (first, before)):
            drift(model)
            averager.after_step()
            averager.after_epoch(epoch, lambda: [images()])
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "average": before.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second.load_state_dict(state["model"])
    after.load_state_dict(state["average"])
    for model, averager in ((whole, uninterrupted), (second, after)):
        drift(model)
        averager.after_step()
        averager.after_epoch(3, lambda: [images()])
    expected, found = uninterrupted.evaluated().state_dict(), after.evaluated().state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@names
def test_config_pickles_is_frozen_and_survives_a_trial_config_in_yaml(name):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = AVERAGING[name].suggest(study.ask(), f"averaging.{name}")
    assert pickle.loads(pickle.dumps(drawn)) == drawn
    with pytest.raises(ValidationError):
        drawn.name = "other"
    config = TrialConfig(averaging=drawn)
    assert TrialConfig.from_yaml(config.to_yaml()) == config

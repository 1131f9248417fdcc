"""What every loss keeps, asked of each that is enrolled."""

import pickle

import numpy as np
import optuna
import pytest
import torch
from pydantic import ValidationError

from analysis.errors import UsageError
from trainable.component import Choices
from trainable.config import TrialConfig
from trainable.losses import LOSSES, LossContext

COUNTS = np.array([100, 10, 1, 0])
CONTEXT = LossContext(COUNTS, COUNTS / COUNTS.sum(), num_epochs=4)
names = pytest.mark.parametrize("name", LOSSES.names())


def batch(size: int = 12, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, 4, generator=generator).to(dtype), torch.arange(size) % 4


def test_every_loss_of_the_list_is_enrolled():
    assert set(LOSSES.names()) >= {
        "cross_entropy", "label_smoothing", "focal", "class_balanced",
        "ohem", "balanced_softmax", "logit_adjustment", "ldam",
    }  # fmt: skip


@names
def test_values_are_finite_float32_per_image_and_gradients_flow(name):
    loss = LOSSES[name]().build(CONTEXT)
    logits, targets = batch()
    logits.requires_grad_()
    values = loss(logits, targets)
    assert values.shape == (12,)
    assert values.dtype == torch.float32
    assert (values >= 0).all()
    reduced = loss.reduce(values)
    assert reduced.shape == ()
    reduced.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_extreme_logits_of_any_precision_stay_finite(name, dtype):
    loss = LOSSES[name]().build(CONTEXT)
    logits = torch.tensor([[6e4, -6e4, 0.0, 0.0], [-6e4, 6e4, 0.0, 0.0], [0.0, 0.0, 6e4, -6e4]], dtype=dtype)
    logits.requires_grad_()
    values = loss(logits, torch.tensor([0, 0, 3]))
    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()
    loss.reduce(values).backward()
    assert torch.isfinite(logits.grad).all()


@names
def test_low_precision_logits_are_computed_in_float32(name):
    loss = LOSSES[name]().build(CONTEXT)
    logits, targets = batch(dtype=torch.bfloat16)
    torch.testing.assert_close(loss(logits, targets), loss(logits.float(), targets), rtol=0, atol=0)


@names
def test_two_equal_builds_agree_and_the_batch_order_does_not_matter(name):
    logits, targets = batch()
    values = LOSSES[name]().build(CONTEXT)(logits, targets)
    turned = LOSSES[name]().build(CONTEXT)(logits.flip(0), targets.flip(0)).flip(0)
    torch.testing.assert_close(values, turned)


@names
def test_the_loss_adds_nothing_to_a_checkpoint_that_a_build_does_not_know(name):
    loss = LOSSES[name]().build(CONTEXT)
    loss.start_epoch(1)
    LOSSES[name]().build(CONTEXT).load_state_dict(loss.state_dict())


@names
def test_config_is_frozen_pickles_and_refuses_unknown_keys(name):
    config = LOSSES[name]()
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValidationError):
        config.name = "other"
    with pytest.raises(UsageError, match="gama"):
        LOSSES.parse({"name": name, "gama": 2.0})
    assert config.reference


@names
def test_suggest_gives_a_config_that_survives_yaml(name):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        loss = LOSSES[name].suggest(study.ask(), f"loss.{name}")
        config = TrialConfig(loss=loss)
        assert TrialConfig.from_yaml(config.to_yaml()).loss == loss


@names
def test_search_ranges_keep_the_law_and_hold_the_default(name):
    for key, dimension in LOSSES[name].dimensions().items():
        default = LOSSES[name].model_fields[key].default
        if isinstance(dimension, Choices):
            assert default in dimension.values
            ends = dimension.values
        else:
            assert dimension.low <= default <= dimension.high
            ends = (dimension.low, dimension.high)
        for value in ends:
            LOSSES[name](**{key: value})

"""What every schedule keeps, asked of each that is enrolled."""

import pickle

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainable.config import TrialConfig
from trainable.schedules import SCHEDULES, lr_curve

names = pytest.mark.parametrize("name", SCHEDULES.names())


def test_every_schedule_of_the_list_is_enrolled():
    assert set(SCHEDULES.names()) >= {"constant", "one_cycle", "cosine", "plateau", "step"}


@names
@given(
    epochs=st.integers(1, 5), steps=st.integers(1, 7), warmup=st.floats(0, 8), metrics=st.lists(st.floats(0, 1))
)
def test_factors_lie_between_0_and_1_however_short_the_training(name, epochs, steps, warmup, metrics):
    schedule = SCHEDULES[name](warmup_epochs=warmup).build(epochs, steps)
    for metric in metrics:
        schedule.observe(metric)
    for step in range(epochs * steps):
        assert 0.0 <= schedule.factor(step) <= 1.0
        momentum = schedule.momentum(step)
        assert momentum is None or 0.0 <= momentum < 1.0


@names
def test_a_curve_has_a_value_for_each_step_and_peaks_at_lr(name):
    curve = lr_curve(SCHEDULES[name](), num_epochs=10, steps_per_epoch=30, lr=0.2)
    assert curve.shape == (300,)
    assert curve.max() == pytest.approx(0.2, rel=1e-3)


@names
def test_warm_up_rises_in_a_line_to_where_the_schedule_begins(name):
    plain = SCHEDULES[name]().build(4, 10)
    warm = SCHEDULES[name](warmup_epochs=1.5, warmup_factor=0.1).build(4, 10)
    factors = np.array([warm.factor(step) for step in range(16)])
    np.testing.assert_allclose(np.diff(factors[:15], 2), 0.0, atol=1e-12)
    assert factors[0] == pytest.approx(0.1 * plain.factor(0))
    assert factors[15] == pytest.approx(plain.factor(0))
    assert warm.momentum(3) == plain.momentum(0)
    assert warm.total_steps == 40


@names
def test_state_is_plain_and_restores_exactly(name):
    schedule, other = (SCHEDULES[name](warmup_epochs=1.0).build(6, 5) for _ in range(2))
    for metric in (0.1, 0.1, 0.1, 0.1, 0.1, 0.1):
        schedule.observe(metric)
    assert all(isinstance(value, int | float) for value in schedule.state_dict().values())
    other.load_state_dict(schedule.state_dict())
    schedule.observe(0.05)
    other.observe(0.05)
    assert [schedule.factor(s) for s in range(30)] == [other.factor(s) for s in range(30)]


@names
def test_config_pickles_is_frozen_and_survives_a_trial_config_in_yaml(name):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = SCHEDULES[name].suggest(study.ask(), f"schedule.{name}")
    assert pickle.loads(pickle.dumps(drawn)) == drawn
    with pytest.raises(ValidationError):
        drawn.warmup_epochs = 1.0
    config = TrialConfig(schedule=drawn)
    assert TrialConfig.from_yaml(config.to_yaml()) == config

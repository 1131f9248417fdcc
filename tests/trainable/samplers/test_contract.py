"""What every batch sampler keeps, asked of each that is enrolled."""

import io
import pickle

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import chisquare

from analysis.errors import UsageError
from trainable.config import TrialConfig
from trainable.samplers import SAMPLERS

COUNTS = np.array([600, 60, 0, 6])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), COUNTS))
names = pytest.mark.parametrize("name", SAMPLERS.names())


def build(name, num_epochs=5, seed=7):
    return SAMPLERS[name]().build(LABELS, 4, num_epochs, seed)


def taught(name, epochs=2):
    """Return a sampler that has seen losses, larger ones for rarer classes."""
    sampler = build(name)
    for epoch in range(epochs):
        indices = sampler.epoch_indices(epoch)
        noise = np.random.default_rng(epoch).uniform(0.5, 1.5, len(indices))
        losses = noise * (1.0 + LABELS[indices])
        sampler.observe(indices, torch.as_tensor(losses, dtype=torch.float32))
    return sampler


def test_every_sampler_of_the_list_is_enrolled():
    assert set(SAMPLERS.names()) >= {
        "natural", "balanced", "square_root", "strength", "dynamic", "difficulty", "online_class_balanced"
    }  # fmt: skip


@names
@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_classes_are_drawn_as_the_distribution_says(name, epoch):
    sampler = taught(name)
    prior = sampler.class_distribution(epoch)
    assert prior.shape == (4,)
    assert prior.sum() == pytest.approx(1.0)
    assert prior[2] == 0.0
    assert (prior[COUNTS > 0] > 0).all()
    indices = sampler.epoch_indices(epoch)
    assert indices.shape == (len(LABELS),)
    assert indices.dtype == np.int64
    drawn = np.bincount(LABELS[indices], minlength=4)
    present = COUNTS > 0
    if name == "natural":
        assert (drawn == COUNTS).all()
    else:
        assert drawn[2] == 0
        assert chisquare(drawn[present], prior[present] * drawn.sum()).pvalue > 1e-4


@names
def test_same_seed_and_epoch_give_the_same_indices_and_others_differ(name):
    first, second, other = taught(name), taught(name), build(name, seed=8)
    np.testing.assert_array_equal(first.epoch_indices(2), second.epoch_indices(2))
    np.testing.assert_array_equal(first.epoch_indices(2), first.epoch_indices(2))
    assert (first.epoch_indices(2) != first.epoch_indices(3)).any()
    assert (build(name).epoch_indices(0) != other.epoch_indices(0)).any()


@names
def test_global_random_state_is_neither_used_nor_moved(name):
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what must stay untouched
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    build(name).epoch_indices(0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@names
def test_state_survives_a_checkpoint_exactly(name):
    sampler, resumed = taught(name), build(name)
    buffer = io.BytesIO()
    torch.save(sampler.state_dict(), buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    for epoch in (2, 3):
        np.testing.assert_array_equal(resumed.class_distribution(epoch), sampler.class_distribution(epoch))
        np.testing.assert_array_equal(resumed.epoch_indices(epoch), sampler.epoch_indices(epoch))
        indices = sampler.epoch_indices(epoch)
        losses = torch.rand(len(indices), generator=torch.Generator().manual_seed(epoch))
        sampler.observe(indices, losses)
        resumed.observe(indices, losses)


@names
@given(counts=st.lists(st.integers(0, 40), min_size=2, max_size=8).filter(any), epochs=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_any_counts_give_a_distribution_over_the_classes_that_occur(name, counts, epochs):
    labels = np.repeat(np.arange(len(counts)), counts)
    sampler = SAMPLERS[name]().build(labels, len(counts), epochs, 0)
    for epoch in range(epochs):
        prior = sampler.class_distribution(epoch)
        assert prior.sum() == pytest.approx(1.0)
        assert ((prior > 0) == (np.array(counts) > 0)).all()
        indices = sampler.epoch_indices(epoch)
        assert len(indices) == len(labels)
        sampler.observe(indices, torch.ones(len(indices)))


@names
def test_config_is_frozen_pickles_refuses_unknown_keys_and_survives_yaml(name):
    config = SAMPLERS[name]()
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValidationError):
        config.name = "other"
    with pytest.raises(UsageError, match="strenght"):
        SAMPLERS.parse({"name": name, "strenght": 0.5})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = SAMPLERS[name].suggest(study.ask(), f"sampler.{name}")
    assert TrialConfig.from_yaml(TrialConfig(sampler=drawn).to_yaml()).sampler == drawn


@names
def test_losses_matter_to_those_that_want_them_and_to_no_other(name):
    fresh, sampler = build(name), taught(name)
    same = (fresh.epoch_indices(2) == sampler.epoch_indices(2)).all()
    assert same != sampler.wants_losses
    assert bool(sampler.state_dict()) == sampler.wants_losses

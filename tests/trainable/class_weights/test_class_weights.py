"""Class weights: their contract, and their numbers by hand."""

import pickle

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from analysis.errors import UsageError
from trainable.class_weights import CLASS_WEIGHTS
from trainable.config import TrialConfig

names = pytest.mark.parametrize("name", CLASS_WEIGHTS.names())


def weights(name, counts, **fields):
    return CLASS_WEIGHTS.parse({"name": name, **fields}).build(np.array(counts))


def test_every_weighting_of_the_list_is_enrolled():
    assert set(CLASS_WEIGHTS.names()) >= {"none", "inverse_frequency", "inverse_sqrt", "effective_number"}


@names
@given(counts=st.lists(st.integers(0, 10**6), min_size=2, max_size=30).filter(any))
def test_mean_is_one_over_present_classes_and_rarer_never_weighs_less(name, counts):
    found = weights(name, counts)
    array = np.array(counts)
    present = array > 0
    assert found.shape == array.shape
    assert np.isfinite(found).all()
    assert (found[present] > 0).all()
    assert (found[~present] == 0).all()
    assert found[present].mean() == pytest.approx(1.0)
    assert (np.diff(found[present][np.argsort(array[present])]) <= 1e-9).all()


def test_inverse_frequency_by_hand():
    # 1/4, 1/2, 1 sum to 7/4: times 3/(7/4)
    assert weights("inverse_frequency", [4, 2, 1]) == pytest.approx([3 / 7, 6 / 7, 12 / 7])


def test_inverse_sqrt_by_hand():
    assert weights("inverse_sqrt", [16, 4, 1]) == pytest.approx([3 / 7, 6 / 7, 12 / 7])


def test_effective_number_by_hand():
    # beta = 1/2: effective numbers 1, 3/2, 7/4; weights 1, 2/3, 4/7 of sum 47/21
    expected = np.array([1, 2 / 3, 4 / 7]) * 3 * 21 / 47
    assert weights("effective_number", [1, 2, 3], beta=0.5) == pytest.approx(expected)


def test_effective_number_with_beta_zero_is_uniform():
    assert weights("effective_number", [1000, 10, 1], beta=0.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("beta", [1 - 1e-10, 1 - 1e-15, np.nextafter(1.0, 0.0)])
def test_effective_number_towards_one_is_inverse_frequency(beta):
    counts = [12341, 166, 6]
    assert weights("effective_number", counts, beta=beta) == pytest.approx(
        weights("inverse_frequency", counts), rel=1e-5
    )


def test_effective_number_far_above_its_horizon_is_flat():
    found = weights("effective_number", [10**6, 10**5], beta=0.99)
    assert found == pytest.approx([1.0, 1.0])


@names
def test_config_is_frozen_pickles_refuses_unknown_keys_and_survives_yaml(name):
    config = CLASS_WEIGHTS[name]()
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValidationError):
        config.defer = 0.5
    with pytest.raises(UsageError, match="betta"):
        CLASS_WEIGHTS.parse({"name": name, "betta": 0.5})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = CLASS_WEIGHTS[name].suggest(study.ask(), f"class_weights.{name}")
    assert TrialConfig.from_yaml(TrialConfig(class_weights=drawn).to_yaml()).class_weights == drawn


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
@pytest.mark.parametrize("key", ["beta", "defer"])
def test_laws_are_kept(key, value):
    with pytest.raises(UsageError, match=key):
        CLASS_WEIGHTS.parse({"name": "effective_number", key: value})

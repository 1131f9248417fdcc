"""A search of heads on frozen features is a cheap first fidelity: it starts a search of networks."""

from __future__ import annotations

import optuna
import pytest

from analysis.errors import UsageError
from search_spaces.space import SearchSpace, load_space
from tests.search_spaces.test_suggestions import BASE
from trainable.config import TrialConfig

HEAD = TrialConfig.model_validate(
    {
        "backbone": {"name": "test_efficientnet", "weights": "some.safetensors"},
        "frozen": "features",
        "loss": {"name": "focal", "gamma": 1.5},
        "sampler": "square_root",
        "optimizer": {"name": "sgd", "lr": 0.7},
        "batch_size": 256,
    }
)


def test_a_head_starts_a_search_of_networks_with_what_it_found() -> None:
    space = load_space("default")
    parameters = space.parameters_of(HEAD)
    assert parameters == {"loss.name": "focal", "loss.focal.gamma": 1.5, "sampler.name": "square_root"}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(6):
        study.enqueue_trial(parameters)
        drawn.append(space.suggest(study.ask(), BASE))
    assert {(config.loss, config.sampler) for config in drawn} == {(HEAD.loss, HEAD.sampler)}
    assert not any(config.frozen.active for config in drawn)
    assert len({config.backbone.name for config in drawn}) > 1, "what a head cannot know is drawn"


def test_a_space_of_heads_takes_the_whole_head() -> None:
    space = SearchSpace.from_yaml("extends: frozen").widened(HEAD)
    assert space.parameters_of(HEAD)["optimizer.sgd.lr"] == 0.7


def test_what_the_space_does_not_offer_is_named() -> None:
    space = SearchSpace.from_yaml("extends: default\nloss: [cross_entropy]")
    with pytest.raises(UsageError, match=r"loss\.focal"):
        space.parameters_of(HEAD)

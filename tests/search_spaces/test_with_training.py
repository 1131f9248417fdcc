"""What the run says of training is pinned in a space: `search --precision`, `--compile`."""

from __future__ import annotations

import optuna
import pytest

from analysis.errors import UsageError
from search_spaces.space import SearchSpace, load_space
from trainable.config import TrialConfig


def test_the_fields_are_pinned_and_the_rest_is_drawn_as_before() -> None:
    space = load_space("default")
    pinned = space.with_training(precision="bf16", compile=True)
    configs = [
        each.suggest(optuna.create_study(sampler=optuna.samplers.RandomSampler(3)).ask(), TrialConfig())
        for each in (space, pinned)
    ]
    assert (configs[1].training.precision, configs[1].training.compile) == ("bf16", True)
    training = configs[1].training.model_copy(update={"precision": "auto", "compile": False})
    assert configs[0] == configs[1].model_copy(update={"training": training})
    assert space.fingerprint() != pinned.fingerprint()
    assert SearchSpace.from_yaml(pinned.to_yaml(), "stored").fingerprint() == pinned.fingerprint()


def test_what_breaks_a_law_is_refused() -> None:
    supervised = SearchSpace.from_yaml("contrastive: {choices: [none, supervised]}", "mine")
    with pytest.raises(UsageError, match="precision"):
        load_space("tiny").with_training(precision="fp8")
    with pytest.raises(UsageError, match="takes networks that nothing reads from inside"):
        supervised.with_training(compile=True)

"""The space `full` has everything that there is, and suggests lawful configurations of it."""

import optuna

from search_spaces.families import FAMILIES
from search_spaces.space import load_space
from trainable.augment import AUGMENT
from trainable.backbones.families import FAMILIES as NETWORKS
from trainable.config import TrialConfig

TECHNIQUES = {
    "progressive_resizing",
    "deep_supervision",
    "distillation",
    "contrastive",
    "classifier_retraining",
    "frozen",
    "posthoc",
}
"""Off unless asked for: each needs something of the network or from outside that not every suggestion has."""


def test_nothing_is_left_out() -> None:
    space = load_space("full")
    for family, registry in FAMILIES.items():
        if family not in TECHNIQUES:
            assert sorted(space.families[family]) == registry.names(), family
    assert sorted(space.always | space.optional) == AUGMENT.names()
    assert {name for family in NETWORKS for name in family.names} <= set(space.backbones)


def test_its_suggestions_are_lawful_and_differ() -> None:
    space = load_space("full")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configs = [space.suggest(study.ask(), TrialConfig()) for _ in range(8)]
    assert len({config.fingerprint() for config in configs}) == 8
    assert len({config.backbone.name for config in configs}) > 3

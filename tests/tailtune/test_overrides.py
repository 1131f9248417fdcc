"""`--set KEY=VALUE`: what it changes, and what it refuses."""

from __future__ import annotations

import pytest

from analysis.errors import UsageError
from tailtune.overrides import overridden
from trainable.config import TrialConfig


def test_values_components_and_nested_keys() -> None:
    config = overridden(
        TrialConfig(), ["optimizer.lr=0.25", "epochs=3", "training.clip_norm=1.5", "data.image_size=[8, 9]"]
    )
    assert config.optimizer.lr == 0.25
    assert (config.epochs, config.training.clip_norm, config.data.image_size) == (3, 1.5, (8, 9))
    assert overridden(config, ["optimizer=sgd"]).optimizer == TrialConfig().optimizer
    assert overridden(config, ["training.early_stopping=2"]).training.early_stopping == 2
    assert overridden(config, []) == config


def test_a_component_that_was_just_named_takes_keys() -> None:
    config = overridden(
        TrialConfig(), ["backbone=test_efficientnet", "backbone.pretrained=false", "loss=focal", "loss.gamma=1"]
    )
    assert (config.backbone.name, config.backbone.pretrained) == ("test_efficientnet", False)
    assert (config.loss.name, config.loss.model_dump()["gamma"]) == ("focal", 1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epochs", "takes KEY=VALUE"),
        ("epochs=0", "epochs: .*greater than or equal to 1, got 0"),
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("optimiser.lr=3", "unknown key 'optimiser'; did you mean 'optimizer'"),
        ("optimizer.lrr=3", "lrr"),
        ("epochs.more=3", "holds one value and no keys"),
        ("loss=focl", "unknown loss 'focl'"),
        ("epochs=[", "plain YAML"),
    ],
)
def test_refusals(change: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        overridden(TrialConfig(), [change])

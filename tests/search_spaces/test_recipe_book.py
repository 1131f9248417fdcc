import pytest

from analysis.errors import UsageError
from search_spaces.recipe_book import list_recipes, load_recipe
from trainable.config import TrialConfig


@pytest.mark.parametrize("entry", list_recipes(), ids=lambda entry: entry.name)
def test_a_recipe_is_a_whole_configuration_with_a_source(entry) -> None:
    config = load_recipe(entry.name)
    assert config.name == entry.name
    assert entry.source
    assert entry.summary
    assert TrialConfig.from_yaml(config.to_yaml()) == config


def test_the_first_recipe_is_what_its_source_says() -> None:
    config = load_recipe("v1")
    assert config.backbone.name.startswith("efficientnet_b0")
    assert config.backbone.pretrained
    assert (config.sampler.name, config.class_weights.name) == ("balanced", "inverse_frequency")
    assert (config.schedule.name, config.schedule.factor, config.schedule.patience) == ("plateau", 0.1, 3)
    assert {op.name for op in config.augment} == {"flip", "rotation", "brightness"}


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown recipe 'v2x'"):
        load_recipe("v2x")

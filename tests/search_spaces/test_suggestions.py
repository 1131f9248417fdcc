"""Laws of suggestion, over thousands of random trials of every named space."""

from collections import Counter
from collections.abc import Callable

import optuna
import pytest

from analysis.errors import UsageError
from search_spaces.declared import DeclaredSpace
from search_spaces.recipe_book import list_recipes, load_recipe
from search_spaces.space import PARTS, SearchSpace, list_spaces, load_space
from trainable.config import DataConfig, TrialConfig
from trainable.rules import double_corrections

NAMES = [entry.name for entry in list_spaces()]
BASE = TrialConfig(epochs=7, data=DataConfig(image_size=(48, 48), flips="hv"), seed=3)
named_spaces = pytest.mark.parametrize("name", NAMES)


def suggested(space: SearchSpace, count: int) -> list[tuple[TrialConfig, dict[str, object]]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    found = []
    for _ in range(count):
        trial = study.ask()
        found.append((space.suggest(trial, BASE), trial.params))
        study.tell(trial, 0.0)
    return found


def parts(config: TrialConfig) -> dict[str, object]:
    found = config.model_dump(include=set(PARTS))
    return found | {"augment": sorted(found["augment"], key=lambda op: op["name"])}


@pytest.fixture(scope="module", params=NAMES)
def sampled(request: pytest.FixtureRequest) -> tuple[SearchSpace, list[tuple[TrialConfig, dict[str, object]]]]:
    space = load_space(request.param)
    return space, suggested(space, 1500)


def test_every_suggestion_is_lawful_and_keeps_what_the_run_decides(sampled) -> None:
    for config, _ in sampled[1]:
        assert TrialConfig.model_validate(config.model_dump(mode="json")) == config
        assert double_corrections(config.loss, config.sampler, config.class_weights, config.posthoc) == []
        assert config.allow == ()
        assert (config.epochs, config.seed, config.data) == (BASE.epochs, BASE.seed, BASE.data)


def test_a_suggestion_and_its_parameters_belong_together(sampled) -> None:
    space, found = sampled
    for config, parameters in found:
        assert space.parameters_of(config) == parameters


def test_every_choice_of_the_space_is_reached(sampled) -> None:
    space, found = sampled
    assert isinstance(space, DeclaredSpace)
    for family, members in space.families.items():
        assert {getattr(config, family).name for config, _ in found} == set(members)
    assert {config.backbone.name for config, _ in found} == set(space.backbones)
    on = Counter(op.name for config, _ in found for op in config.augment)
    assert all(on[name] == len(found) for name in space.always)
    assert all(0.4 < on[name] / len(found) < 0.6 for name in space.optional)


def test_text_round_trip_suggests_the_same(sampled) -> None:
    space, found = sampled
    again = SearchSpace.from_yaml(space.to_yaml(), "again")
    assert again.fingerprint() == space.fingerprint()
    for (config, _), (other, _) in zip(found[:50], suggested(again, 50), strict=True):
        assert config == other


def test_a_widened_space_contains_what_it_was_widened_to() -> None:
    tiny, default = load_space("tiny"), load_space("default")
    with pytest.raises(UsageError, match="does not: "):
        tiny.parameters_of(suggested(default, 1)[0][0])
    for config, _ in suggested(default, 40):
        wider = tiny.widened(config)
        parameters = wider.parameters_of(config)
        assert parts(replayed(wider, parameters)) == parts(config)
        assert wider.fingerprint() != tiny.fingerprint()
    for config, _ in suggested(tiny, 20):
        assert tiny.widened(config).fingerprint() == tiny.fingerprint()


def test_threads_of_a_starting_point_stay_with_the_slot_that_it_ran_in() -> None:
    """An export names them so that `train` repeats the trial; a search has its own."""
    tiny = load_space("tiny")
    config = suggested(tiny, 1)[0][0]
    exported = config.model_copy(update={"training": config.training.model_copy(update={"threads": 2})})
    assert tiny.parameters_of(exported) == tiny.parameters_of(config)
    assert tiny.widened(exported).fingerprint() == tiny.fingerprint()
    pinned = tiny.with_training(threads=1)
    with pytest.raises(UsageError, match=r"training\.threads = 2"):
        pinned.parameters_of(exported)


def replayed(space: SearchSpace, parameters: dict[str, object]) -> TrialConfig:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(parameters)
    return space.suggest(study.ask(), BASE)


@pytest.mark.parametrize("recipe", [entry.name for entry in list_recipes()])
def test_a_recipe_is_a_starting_point_of_a_widened_space(recipe: str) -> None:
    config = load_recipe(recipe)
    space = load_space("tiny").widened(config)
    assert parts(replayed(space, space.parameters_of(config))) == parts(config)


def test_a_starting_point_may_break_the_rules_but_suggestions_do_not(
    read: Callable[[str], DeclaredSpace],
) -> None:
    space = read("sampler: [natural, balanced]\nclass_weights: [none, inverse_frequency]\nbackbone: resnet10t")
    twice = TrialConfig.model_validate(
        {
            "backbone": "resnet10t",
            "sampler": "balanced",
            "class_weights": "inverse_frequency",
            "allow": ["balanced_sampler+inverse_frequency"],
        }
    )
    again = replayed(space, space.parameters_of(twice))
    assert parts(again) == parts(twice)
    assert again.allow == twice.allow
    seen = {(config.sampler.name, config.class_weights.name) for config, _ in suggested(space, 200)}
    assert seen == {("natural", "none"), ("natural", "inverse_frequency"), ("balanced", "none")}


def test_an_allowed_pair_is_suggested(read: Callable[[str], DeclaredSpace]) -> None:
    text = "sampler: balanced\nclass_weights: [none, inverse_frequency]\n"
    text += "allow: [balanced_sampler+inverse_frequency]"
    configs = [config for config, _ in suggested(read(text), 50)]
    assert {config.class_weights.name for config in configs} == {"none", "inverse_frequency"}
    assert {config.allow for config in configs} == {(), ("balanced_sampler+inverse_frequency",)}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_shortened_lists_have_names_of_their_own_and_survive_tpe(read: Callable[[str], DeclaredSpace]) -> None:
    space = read(
        "loss: [focal, balanced_softmax]\nsampler: [natural, difficulty, balanced]\noptimizer: [sgd, adam]"
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=5, multivariate=True, group=True)
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for step in range(40):
        trial = study.ask()
        space.suggest(trial, BASE)
        study.tell(trial, float(step % 7))
    for trial in study.trials:
        asked = [name for name in trial.params if name.startswith("sampler.name")]
        corrected = trial.params["loss.name"] == "balanced_softmax"
        assert asked == ["sampler.name[natural|difficulty]" if corrected else "sampler.name"]


def test_networks_without_stochastic_depth_are_not_asked_for_its_rate(
    read: Callable[[str], DeclaredSpace],
) -> None:
    space = read("backbone: [resnet10t, vgg11]")
    for config, parameters in suggested(space, 30):
        assert ("backbone.drop_path_rate" in parameters) == (config.backbone.name == "resnet10t")
        assert space.parameters_of(config) == parameters

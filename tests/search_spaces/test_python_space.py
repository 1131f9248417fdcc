from pathlib import Path

import optuna
import pytest

from analysis.errors import UsageError
from search_spaces.space import load_space
from trainable.config import TrialConfig

SOURCE = '''
"""Spaces."""
from trainable.config import TrialConfig

def whole(trial):
    """Search the learning rate alone."""
    lr = trial.suggest_float("lr", 0.01, 0.1, log=True)
    return TrialConfig.model_validate({"optimizer": {"name": "sgd", "lr": lr}, "epochs": 99})

def some(trial):
    return {"batch_size": trial.suggest_categorical("batch", [32, 64]), "loss": "focal"}

def run_level(trial):
    return {"epochs": 3}

def wrong(trial):
    return 3

def twice(trial):
    return {"sampler": "balanced", "class_weights": "inverse_frequency"}
'''
BASE = TrialConfig(epochs=4, seed=8, batch_size=16)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("their_spaces.py").write_text(SOURCE)
    Path("broken_space.py").write_text("import nothing_of_this_name")
    return "their_spaces"


def trial() -> optuna.Trial:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()


def test_a_whole_configuration_gives_its_parts_and_the_run_the_rest(module: str) -> None:
    space = load_space(f"{module}:whole")
    assert space.summary == "Search the learning rate alone."
    asked = trial()
    config = space.suggest(asked, BASE)
    assert config.optimizer.lr == asked.params["lr"]
    assert (config.epochs, config.seed, config.batch_size) == (4, 8, 128)


def test_a_mapping_gives_what_it_names(module: str) -> None:
    config = load_space(f"{module}.py:some").suggest(trial(), BASE)
    assert config.loss.name == "focal"
    assert config.batch_size in (32, 64)
    assert config.epochs == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run_level", r"unknown part returned by their_spaces:run_level: 'epochs'.*the run decides"),
        ("wrong", "must return a TrialConfig or a mapping of its parts, got int"),
        ("twice", "corrected once, but here twice"),
    ],
)
def test_what_a_function_may_not_return(module: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_space(f"{module}:{name}").suggest(trial(), BASE)


def test_functions_and_modules_that_are_not_there(module: str) -> None:
    with pytest.raises(UsageError, match="unknown function in their_spaces 'whle'; did you mean 'whole'"):
        load_space(f"{module}:whle")
    with pytest.raises(
        UsageError, match="cannot import no_such, the module of space no_such:f: ModuleNotFound"
    ):
        load_space("no_such:f")
    with pytest.raises(UsageError, match="cannot import broken_space"):
        load_space("broken_space:f")
    with pytest.raises(UsageError, match=r"there is no file absent\.py"):
        load_space("absent.py:f")


def test_the_fingerprint_is_of_the_text(module: str) -> None:
    first = load_space(f"{module}.py:some").fingerprint()
    assert load_space(f"{module}.py:some").fingerprint() == first
    assert load_space(f"{module}.py:whole").fingerprint() != first
    Path("their_spaces.py").write_text(SOURCE.replace("[32, 64]", "[32, 96]"))
    assert load_space(f"{module}.py:some").fingerprint() != first


def test_a_function_takes_no_starting_points(module: str) -> None:
    space = load_space(f"{module}:some")
    assert space.to_yaml() == ""
    with pytest.raises(UsageError, match="only a space in YAML takes starting points"):
        space.parameters_of(BASE)
    with pytest.raises(UsageError, match="only a space in YAML can be widened"):
        space.widened(BASE)

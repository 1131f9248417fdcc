"""What a search may be asked for, and what is filled in where nothing was said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.errors import UsageError
from tailtune.launch import grace
from tailtune.planning import Request, base_config, home_folder, resources, threads_alone
from tailtune.study_spec import ResourceSpec


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trials": 0}, "--trials must be at least 1, got 0"),
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"metric": "accuracy"}, "unknown metric 'accuracy'; known: macro_f1"),
        ({"test_fraction": 1.0}, r"--test-fraction must lie in \[0, 1\), got 1.0"),
        ({"time_budget": 0.0}, "--time-budget must be above zero"),
        ({"concurrent": 0}, "--concurrent must be at least 1, got 0"),
        ({"address": "ray://head:10001"}, "from inside the cluster, got 'ray://head:10001'.*ray job submit"),
        ({"cpus_per_trial": 0.0}, "--cpus-per-trial must be above 0, got 0"),
        ({"gpus_per_trial": 1.5}, r"--gpus-per-trial must lie in \[0, 1\] or be a whole number, got 1.5"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial"),
        ({"gpus_per_trial": float("nan")}, "--gpus-per-trial must lie in"),
        ({"cpus_per_trial": float("inf")}, "--cpus-per-trial must be above 0, got inf"),
        ({"cpus_per_trial": float("nan")}, "--cpus-per-trial must be above 0, got nan"),
        ({"time_budget": float("nan")}, "--time-budget must be above zero"),
        ({"study": "a+b"}, "a study's name has letters.*got 'a\\+b'"),
        ({"study": "../elsewhere"}, "a study's name has letters.*got '../elsewhere'"),
        ({"study": ""}, "got ''"),
        ({"study": ".hidden"}, "got '.hidden'"),
    ],
)
def test_refusals_state_law_and_value(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Request(data="digits-lt", **change)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resize": "squash"}, "data.resize.*'pad'.*got 'squash'"),
        ({"flips": "up"}, "data.flips.*'dihedral'.*got 'up'"),
        ({"image_size": (2, 48)}, "data.image_size.0.*greater than or equal to 4, got 2"),
    ],
)
def test_geometry_is_refused_by_its_own_law(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        base_config(Request(data="digits-lt", **change))


@pytest.mark.parametrize(
    ("data", "space", "name"),
    [
        ("digits-lt", "tiny", "digits-lt-tiny"),
        ("/somewhere/my plankton/", "default", "my-plankton-default"),
        ("a/b.csv", "spaces/mine.yaml", "b-mine"),
        ("cifar100-lt:100", "pkg.mod:space", "cifar100-lt-100-space"),
        ("..", "tiny", f"{Path('..').absolute().name}-tiny"),
    ],
)
def test_a_study_is_named_after_data_and_space(data: str, space: str, name: str) -> None:
    request = Request(data=data, space=space)
    assert request.name == (name if data != ".." else request.name)
    Request(data=data, space=space, study=request.name)  # whatever it is, it is lawful


def test_what_the_run_decides_is_in_every_configuration() -> None:
    base = base_config(Request(data="digits-lt", epochs=7, seed=3, test_fraction=0.1, group_by="a(b)"))
    assert (base.epochs, base.data.flips, base.data.split_seed) == (7, "none", 3)
    assert (base.data.test_fraction, base.data.group_by) == (0.1, "a(b)")
    assert base_config(Request(data="elsewhere")).data.flips == "h"
    assert base_config(Request(data="digits-lt", flips="hv")).data.flips == "hv"


def test_resources_fill_the_machine() -> None:
    assert resources(None, None, None, cores=2, num_gpus=0).concurrent == 2
    assert resources(None, None, None, cores=64, num_gpus=0).concurrent == 8
    assert resources(None, None, None, cores=64, num_gpus=0).cpus == 8
    assert resources(2, None, None, cores=4, num_gpus=0).concurrent == 2
    on_gpus = resources(None, None, None, cores=32, num_gpus=4)
    assert (on_gpus.concurrent, on_gpus.gpus, on_gpus.cpus) == (4, 1.0, 8)
    assert resources(None, 0.25, None, cores=16, num_gpus=1).concurrent == 4
    assert resources(None, 0.0, None, cores=4, num_gpus=1).gpus == 0.0
    assert resources(None, None, 3, cores=2, num_gpus=0).cpus == 1


def test_a_first_trial_runs_alone_only_where_it_is_cheap() -> None:
    given = ResourceSpec(concurrent=2)
    assert threads_alone(given, 10, cores=2) == 2
    assert threads_alone(given, 9, cores=2) is None  # a third of a trial is felt
    assert threads_alone(given, 10, cores=1) is None  # there is no second core
    assert threads_alone(ResourceSpec(cpus_per_trial=2, concurrent=2), 10, cores=4) is None  # not measured
    assert threads_alone(ResourceSpec(concurrent=3), 10, cores=4) is None
    assert threads_alone(ResourceSpec(gpus_per_trial=0.5, concurrent=2), 10, cores=4) is None


def test_home_is_absolute_and_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TAILTUNE_HOME", str(tmp_path))
    assert home_folder(None) == tmp_path
    assert Request(data="x").home == tmp_path
    monkeypatch.delenv("TAILTUNE_HOME")
    assert home_folder(None) == Path.cwd() / "runs"
    assert Request(data="x", home=Path("here")).home == Path.cwd() / "here"


def test_grace_lies_after_the_warm_up_and_before_the_end() -> None:
    assert [grace(epochs) for epochs in (1, 2, 3, 6, 9, 27, 100)] == [1, 1, 1, 2, 3, 3, 3]

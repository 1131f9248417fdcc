"""From what the user asks for to what a search needs: checked options, data, split, space, starting points."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from tailtune.study_spec import ResourceSpec
    from trainable.config import TrialConfig

METRICS = ("macro_f1",)
DEFAULT_HOME = Path("runs")
_FLIPS_OF = {"digits-lt": "none"}
"""Built-in data whose classes do not survive a mirror."""
MOST_CONCURRENT = 8
"""Without a GPU; TPE learns little from trials that it hands out blindly side by side."""
FEWEST_TO_WAIT = 10
"""Trials of a search that lets its first one run alone."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """What a search is asked for, as the command line names it; checked when it is made.

    Raises:
        UsageError: If a value breaks its law.
    """

    data: str
    study: str | None = None
    space: str = "default"
    trials: int = 20
    time_budget: float | None = None
    epochs: int = 10
    metric: str = "macro_f1"
    image_size: tuple[int, int] | None = None
    resize: str = "pad"
    flips: str | None = None
    cpus_per_trial: float | None = None
    gpus_per_trial: float | None = None
    concurrent: int | None = None
    start_from: Sequence[str] = ()
    widen: bool = False
    pretrained: bool | None = None
    precision: str | None = None
    compile: bool | None = None
    storage: str | None = None
    address: str | None = None
    seed: int = 0
    group_by: str | None = None
    folds: int | str = 1
    test_fraction: float = 0.0
    long_tail: float | None = None
    long_tail_seed: int = 0
    rare_classes: str = "keep"
    rare_below: int = 2
    allow_outside: bool = False
    verify_content: bool = False
    max_broken: float = 0.25
    home: Path = field(default_factory=lambda: home_folder(None))

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", home_folder(self.home))
        at_least("trials", self.trials, 1)
        at_least("epochs", self.epochs, 1)
        at_least("seed", self.seed, 0)
        if self.metric not in METRICS:
            raise unknown_name("metric", self.metric, METRICS)
        if not 0.0 <= self.test_fraction < 1.0:
            raise UsageError(f"--test-fraction must lie in [0, 1), got {self.test_fraction}")
        check_run(self.time_budget, self.concurrent, self.address)
        check_resources(self.cpus_per_trial, self.gpus_per_trial)
        if self.study is not None:
            check_study_name(self.study)

    @property
    def name(self) -> str:
        """The study's name: as given, or made of the data's and the space's."""
        if self.study is not None:
            return self.study
        parts = (Path(self.data).stem or Path(self.data).absolute().name, Path(self.space.split(":")[-1]).stem)
        plain = (re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") or "study" for part in parts)
        return "-".join(part[:45] for part in plain)

    @property
    def mirrorings(self) -> str:
        """The flips asked for, or what suits the data."""
        return self.flips or _FLIPS_OF.get(self.data, "h")


def home_folder(home: str | os.PathLike[str] | None) -> Path:
    """Return `home`, or else `$TAILTUNE_HOME`, or else `runs`, as an absolute path."""
    given = home if home is not None else os.environ.get("TAILTUNE_HOME", DEFAULT_HOME)
    return Path(given).expanduser().absolute()


def cache_folder(home: Path) -> Path:
    """Return where decoded images are kept: `$TAILTUNE_CACHE`, or `.cache` in the home."""
    given = os.environ.get("TAILTUNE_CACHE")
    return Path(given).expanduser() if given else home / ".cache"


def at_least(option: str, value: float, least: float) -> None:
    """Refuse `value` below `least`.

    Raises:
        UsageError: In the words of the command line.
    """
    if value < least:
        raise UsageError(
            f"--{option} must be at least {least:g}, got {value:g}", f"give --{option} {least:g} or more"
        )


def check_run(time_budget: float | None, concurrent: int | None, address: str | None) -> None:
    """Refuse what no run can have.

    Raises:
        UsageError: If a value breaks its law, or the address is one of Ray Client.
    """
    if time_budget is not None and not 0 < time_budget < math.inf:
        raise UsageError(f"--time-budget must be above zero, got {time_budget:g} s")
    if concurrent is not None:
        at_least("concurrent", concurrent, 1)
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"--address must be reached from inside the cluster, got '{address}' (Ray Client would run the "
            "search away from the study's storage)",
            "submit the command with `ray job submit -- tailtune search … --address auto`",
        )


def check_resources(cpus: float | None, gpus: float | None) -> None:
    """Refuse resources that no trial can have.

    Raises:
        UsageError: If a share is not above zero, or a number of GPUs above 1 is not whole.
    """
    if cpus is not None and not 0 < cpus < math.inf:
        raise UsageError(f"--cpus-per-trial must be above 0, got {cpus:g}")
    if gpus is not None and (not 0 <= gpus < math.inf or (gpus > 1 and gpus != int(gpus))):
        raise UsageError(f"--gpus-per-trial must lie in [0, 1] or be a whole number, got {gpus:g}")


def check_study_name(name: str) -> None:
    """Refuse a name that is no plain folder name.

    Raises:
        UsageError: If it is empty, hidden, or leads elsewhere.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            f"a study's name has letters, digits and _.- and starts with a letter or digit, got '{name}'",
            "the folder that holds it is chosen with --home",
        )


@dataclass(frozen=True)
class Resources:
    """What a trial is given, and how many run at a time."""

    cpus: float
    gpus: float
    concurrent: int


def resources(
    cpus: float | None, gpus: float | None, concurrent: int | None, *, cores: int, num_gpus: int
) -> Resources:
    """Fill what was not asked for from what the machine has.

    With GPUs: one trial a GPU, cores shared evenly. Without: a core a trial, at most eight trials.

    >>> resources(None, None, None, cores=2, num_gpus=0)
    Resources(cpus=1, gpus=0.0, concurrent=2)
    >>> resources(None, 0.5, None, cores=16, num_gpus=1)
    Resources(cpus=8, gpus=0.5, concurrent=2)
    """
    each_gpu = (1.0 if num_gpus else 0.0) if gpus is None else gpus
    if concurrent is None and each_gpu > 0:
        concurrent = max(1, int(num_gpus / each_gpu))
    elif concurrent is None:
        concurrent = max(1, min(MOST_CONCURRENT, int(cores / (cpus or 1))))
    return Resources(cpus or max(1, cores // concurrent), each_gpu, concurrent)


def threads_alone(given: ResourceSpec, trials: int, *, cores: int) -> int | None:
    """Return the threads with which a search's first trial runs alone, or None where it should not.

    A trial that has two cores instead of one ends after 0.7 of the time; the search has something to show
    sooner, and its second trial something to go by. It costs a third of a trial, which few trials would feel;
    with more slots it would cost more, with more cores a slot it has not been measured, and on a GPU there is
    nothing to share.

    >>> from tailtune.study_spec import ResourceSpec
    >>> threads_alone(ResourceSpec(concurrent=2), 20, cores=2)
    2
    >>> threads_alone(ResourceSpec(concurrent=2), 5, cores=2)
    >>> threads_alone(ResourceSpec(concurrent=8), 20, cores=8)
    """
    on_one_core_each = given.gpus_per_trial == 0 and given.concurrent == 2 and int(given.cpus_per_trial) <= 1
    return 2 if on_one_core_each and cores >= 2 and trials >= FEWEST_TO_WAIT else None


def machine() -> tuple[int, int]:
    """Return the CPU cores that this process may use and the GPUs that torch sees."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, torch.cuda.device_count()


def base_config(request: Request) -> TrialConfig:
    """Return the part of every trial's configuration that the request decides.

    Raises:
        UsageError: If the geometry breaks a law.
    """
    from trainable.component import validated
    from trainable.config import TrialConfig

    data = {
        "image_size": request.image_size,
        "resize": request.resize,
        "flips": request.mirrorings,
        "split_seed": request.seed,
        "test_fraction": request.test_fraction,
        "group_by": request.group_by,
        "folds": request.folds,
        "long_tail": request.long_tail,
        "long_tail_seed": request.long_tail_seed,
        "rare_classes": request.rare_classes,
        "rare_below": request.rare_below,
        "allow_outside": request.allow_outside,
        "verify_content": request.verify_content,
        "max_broken": request.max_broken,
    }
    return validated(TrialConfig, {"epochs": request.epochs, "data": data})

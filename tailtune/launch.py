"""From a request to a running search: data, split, space, starting points, study, trials."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.errors import TailtuneError
from search_spaces.recipe_book import load_recipe
from search_spaces.space import SearchSpace, load_space
from search_spaces.techniques import check_teachers
from tailtune.planning import Request, base_config, cache_folder, machine, resources
from tailtune.progress import Watcher
from tailtune.search import Outcome, run_search
from tailtune.study import StartingPoint, Study
from tailtune.study_spec import FILE, BudgetSpec, DataSpec, ResourceSpec, SpaceSpec, SplitSpec, StudySpec
from trainable.compiling import require_compiler
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.data.load import load_dataset
from trainable.data.split import load_split, make_split, save_split
from trainable.folds import make_folds, resolved_folds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainable.data.dataset import ImageDataset, Split

_VERSIONED = ("torch", "torchvision", "timm", "optuna", "ray", "numpy", "tailtune")


@dataclass(frozen=True)
class Prepared:
    """Everything that a search needs, and nothing written yet but the cache of decoded images."""

    dataset: ImageDataset
    split: Split
    space: SearchSpace
    spec: StudySpec
    points: tuple[StartingPoint, ...]
    notes: tuple[str, ...]
    """What the split, or its folds, could not do for classes that are too small, by name."""


def prepare(request: Request, watcher: Watcher) -> Prepared:
    """Read the space, the starting points and the data.

    Raises:
        UsageError: If a name or value is refused.
        TailtuneError: If the data cannot be read.
    """
    base = base_config(request)
    space = load_space(request.space)
    starts = [starting_point(name, request.home, base) for name in request.start_from]
    if request.pretrained is False:
        space = space.at_random()
        starts = [(name, _without_weights(config)) for name, config in starts]
    asked = {"precision": request.precision, "compile": request.compile}
    training = {key: value for key, value in asked.items() if value is not None}
    if request.compile and request.address is None:
        require_compiler()
    if training:
        space = space.with_training(**training)
        starts = [(name, _trained_so(config, training)) for name, config in starts]
    if request.widen:
        for _, config in starts:
            space = space.widened(config)
    points = tuple((name, dict(space.parameters_of(config))) for name, config in starts)
    space.require_weights()
    dataset = load_dataset(
        request.data,
        data=base.data,
        cache_dir=cache_folder(request.home),
        progress=watcher.decoding,
    )
    check_teachers(space, dataset.class_names)
    split = make_split(dataset, seed=request.seed, test_fraction=request.test_fraction)
    number = resolved_folds(base.data.folds, dataset, split)
    base = base.model_copy(update={"data": base.data.model_copy(update={"folds": number})})
    spec = _spec(request, base, space, dataset, tuple(name for name, _ in starts))
    folds = make_folds(dataset, split, number, request.seed)
    notes = tuple(dict.fromkeys(note for fold in folds for note in fold.notes))
    return Prepared(dataset, split, space, spec, points, notes)


def launch(request: Request, watcher: Watcher) -> Study:
    """Make or open the study that `request` describes, and run it."""
    with watcher:
        prepared = prepare(request, watcher)
        watcher.noted(prepared.notes)
        with _resumable(request.home / prepared.spec.name):
            study = Study.create(
                request.home, prepared.spec, storage=request.storage, start_from=prepared.points
            )
            study.spec = study.spec.model_copy(update={"resources": prepared.spec.resources})
            return _run(study, prepared.space, prepared.dataset, watcher, request.time_budget, request.address)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say how to go on where Ctrl-C comes before the search listens to it, or ends it at once."""
    try:
        yield
    except KeyboardInterrupt:
        if not (folder / FILE).exists():
            raise
        raise TailtuneError("interrupted", f"go on with `tailtune resume {folder.name}`") from None


def relaunch(
    study: Study,
    *,
    trials: int | None,
    concurrent: int | None,
    time_budget: float | None,
    address: str | None,
    watcher: Watcher,
) -> Study:
    """Go on with `study`, with its own data and space.

    Raises:
        TailtuneError: If its data are not what they were.
    """
    with watcher, _resumable(study.folder):
        if trials is not None:
            study.check_growth(trials)
        if trials in (None, study.spec.budget.trials) and _nothing_left(study, watcher):
            return study
        if concurrent is not None:
            given = study.spec.resources.model_copy(update={"concurrent": concurrent})
            study.spec = study.spec.model_copy(update={"resources": given})
        data = study.spec.data
        dataset = load_dataset(
            data.source,
            data=study.spec.base.data,
            cache_dir=cache_folder(study.folder.parent),
            progress=watcher.decoding,
        )
        if dataset.fingerprint != data.fingerprint:
            raise TailtuneError(
                f"a study goes on with the images that it began with, but those of {data.source} have changed",
                "put them back, or begin a new study",
            )
        if trials is not None:
            with study.locked():
                study.resize(trials)
        return _run(study, space_of(study), dataset, watcher, time_budget, address)


def _nothing_left(study: Study, watcher: Watcher) -> bool:
    """Return whether the study has finished, and say so; that needs neither its data nor Ray."""
    status = study.status()
    if status["state"] != "finished":
        return False
    watcher.begin(status, study.spec.trial_epochs)
    ended = sum(status["trials"][state] for state in ("COMPLETE", "PRUNED", "FAIL"))
    asked = study.spec.budget.trials
    watcher.outcome = Outcome("finished" if ended >= asked else "exhausted", ended, asked)
    return True


def space_of(study: Study) -> SearchSpace:
    """Return the space that `study` was begun with: study.yaml holds it, but for a Python function's.

    Raises:
        TailtuneError: If the function has changed since.
    """
    stored = study.spec.space
    if not stored.yaml:
        space = load_space(stored.name)
        if space.fingerprint() != stored.fingerprint:
            raise TailtuneError(
                f"a study goes on with the space that it began with, but {stored.name} has changed",
                "put it back, or begin a new study",
            )
        return space
    return SearchSpace.from_yaml(stored.yaml, f"{study.folder}: space")


def split_of(study: Study, dataset: ImageDataset) -> Split:
    """Return the study's split, as it is stored, or made by its seed and stored."""
    path = study.folder / study.spec.split.file
    if path.exists():
        return load_split(path, fingerprint=dataset.fingerprint)
    split = make_split(dataset, seed=study.spec.split.seed, test_fraction=study.spec.data.test_fraction)
    save_split(split, path, fingerprint=dataset.fingerprint)
    return split


def starting_point(name: str, home: Path, base: TrialConfig) -> tuple[str, TrialConfig]:
    """Return the configuration of a file, a study's best trial or a recipe, brought to the run's terms."""
    if Path(name).is_file():
        config = TrialConfig.from_file(name)
    elif (home / name / "study.yaml").exists():
        study = Study.open(home, name)
        best = study.status()["best"]
        if best is None:
            raise TailtuneError(
                f"study '{name}' has no finished trial to start from", f"run `tailtune resume {name}`"
            )
        config = study.config(best["number"])
    else:
        config = load_recipe(name)
    return name, config.model_copy(update={"epochs": base.epochs, "data": base.data})


def _without_weights(config: TrialConfig) -> TrialConfig:
    backbone = config.backbone.model_copy(update={"pretrained": False, "weights": None})
    return config.model_copy(update={"backbone": backbone})


def _trained_so(config: TrialConfig, training: Mapping[str, Any]) -> TrialConfig:
    changed = {**config.training.model_dump(), **training}
    return validated(TrialConfig, config.model_dump() | {"training": changed}, config.name or "starting point")


def _run(
    study: Study,
    space: SearchSpace,
    dataset: ImageDataset,
    watcher: Watcher,
    time_budget: float | None,
    address: str | None,
) -> Study:
    from trainable.tune_adapter import ImageTrainable, SharedData

    split = split_of(study, dataset)
    given = study.spec.resources
    threads, share = max(1, int(given.cpus_per_trial)), min(given.gpus_per_trial, 1.0) or 1.0

    def shared(own_ray: bool) -> Mapping[str, Any]:
        cache = cache_folder(study.folder.parent).absolute()
        data = SharedData.put(dataset, split, study.folder / "ray" if own_ray else None)
        return {"data": data, "threads": threads, "cache_dir": cache, "gpu_share": share}

    watcher.begin(study.status(), study.spec.trial_epochs)
    watcher.outcome = run_search(
        study,
        space,
        ImageTrainable,
        shared=shared,
        observer=watcher,
        time_budget_seconds=time_budget,
        address=address,
    )
    return study


def _spec(
    request: Request, base: TrialConfig, space: SearchSpace, dataset: ImageDataset, starts: tuple[str, ...]
) -> StudySpec:
    cores, num_gpus = machine()
    given = resources(
        request.cpus_per_trial, request.gpus_per_trial, request.concurrent, cores=cores, num_gpus=num_gpus
    )
    counts = dict(zip(dataset.class_names, dataset.class_counts().tolist(), strict=True))
    return StudySpec(
        name=request.name,
        data=DataSpec(
            source=dataset.source if not Path(request.data).exists() else str(Path(request.data).absolute()),
            fingerprint=dataset.fingerprint,
            num_images=len(dataset.labels),
            num_classes=dataset.num_classes,
            class_counts=counts,
            image_size=dataset.image_size,
            resize=base.data.resize,
            flips=base.data.flips,
            test_fraction=request.test_fraction,
            group_by=request.group_by,
        ),
        split=SplitSpec(seed=request.seed),
        space=SpaceSpec(name=request.space, fingerprint=space.fingerprint(), yaml=space.to_yaml()),
        budget=BudgetSpec(trials=request.trials, epochs=request.epochs, grace_epochs=grace(request.epochs)),
        seed=request.seed,
        base=base,
        start_from=starts,
        resources=ResourceSpec(
            cpus_per_trial=given.cpus, gpus_per_trial=given.gpus, concurrent=given.concurrent
        ),
        versions={"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in _VERSIONED},
    )


def grace(epochs: int) -> int:
    """Return the epochs before ASHA's first rung: a third of a trial, from 1 to 3.

    Rare classes are silent early, and the spaces warm up for at most two epochs: no trial is judged
    before its third epoch where it has nine or more.

    >>> [grace(epochs) for epochs in (1, 2, 6, 9, 100)]
    [1, 1, 2, 3, 3]
    """
    return min(3, max(1, epochs // 3))

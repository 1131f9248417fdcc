"""The verbs of the command line as functions: `tailtune.search(...)` returns a `Study`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailtune.planning import Request, at_least, cache_folder, check_run, check_study_name, home_folder

if TYPE_CHECKING:
    from analysis.audit import Audit
    from analysis.ranking import Ranking
    from tailtune.doctor import Diagnosis
    from tailtune.progress import Watcher
    from tailtune.study import Study
    from trainable.config import TrialConfig
    from trainable.history import EpochReport

__all__ = [
    "configuration",
    "dashboard",
    "data",
    "doctor",
    "estimate",
    "export",
    "lr_find",
    "open_study",
    "rank",
    "recipe",
    "recipes",
    "resume",
    "search",
    "space",
    "spaces",
    "status",
    "stop",
    "train",
]

Home = str | os.PathLike[str] | None


def search(data: str, *, watcher: Watcher | None = None, **request: Any) -> Study:
    """Search `data` for the best training configuration; the same call again goes on where it was.

    Args:
        data: Folder, CSV manifest, `.npz` or built-in name.
        watcher: Is told what happens (`tailtune.progress`).
        **request: The fields of `tailtune.planning.Request`, which are the options of `tailtune search`.

    Returns:
        The study, with its trials ended, or resumable where the time budget or a `stop` came first.

    Raises:
        UsageError: If an option, name or value breaks a law, or the study exists with other ones.
        TailtuneError: If the data cannot be read, the study not be written, or Ray not be started.
    """
    checked = Request(data=data, **request)
    from tailtune.launch import launch
    from tailtune.progress import Watcher as Silent

    return launch(checked, watcher or Silent())


def estimate(data: str, *, watcher: Watcher | None = None, **request: Any) -> dict[str, Any]:
    """Say what `search` would run with the same arguments, and what it might cost; start nothing.

    Returns:
        `{"study", "plan": {...}, "estimate": {...}}`; see `tailtune.estimate.Estimate`.
    """
    checked = Request(data=data, **request)
    from tailtune.estimate import plan
    from tailtune.launch import prepare
    from tailtune.progress import Watcher as Silent

    with watcher or Silent() as shown:
        return plan(prepare(checked, shown))


def resume(
    study: str,
    *,
    trials: int | None = None,
    time_budget: float | None = None,
    concurrent: int | None = None,
    address: str | None = None,
    home: Home = None,
    watcher: Watcher | None = None,
) -> Study:
    """Go on with a study that was interrupted, or extend a finished one to `trials`.

    Args:
        study: Its name.
        trials: Trials in all; None keeps what was asked for.
        time_budget: Seconds after which it stops, resumably.
        concurrent: Trials at a time; None keeps what it had.
        address: Of a Ray cluster; None starts a local Ray.
        home: Folder of studies; `$TAILTUNE_HOME`, else `runs`.
        watcher: Is told what happens.
    """
    if trials is not None:
        at_least("trials", trials, 1)
    check_run(time_budget, concurrent, address)
    from tailtune.launch import relaunch
    from tailtune.progress import Watcher as Silent

    return relaunch(
        open_study(study, home),
        trials=trials,
        concurrent=concurrent,
        time_budget=time_budget,
        address=address,
        watcher=watcher or Silent(),
    )


def stop(study: str, *, home: Home = None) -> dict[str, Any]:
    """Ask the driver of `study` to stop, resumably; return `{"study", "was_running", "state"}`."""
    found = open_study(study, home)
    return {"study": study, "was_running": found.request_stop(), "state": found.status()["state"]}


def status(study: str, *, home: Home = None) -> dict[str, Any]:
    """Return how far `study` is: the document of `tailtune status --json`."""
    return open_study(study, home).status()


def rank(study: str | Study, *, home: Home = None) -> Ranking:
    """Return the trials of `study` by macro-F1, with intervals from their stored predictions."""
    from analysis.ranking import rank as rank_records

    opened = open_study(study, home) if isinstance(study, str) else study
    return rank_records(opened.records(), study=opened.name)


def data(
    source: str,
    *,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    html: str | Path | None = None,
    show_augment: str | None = None,
    sheet: str | Path = "augment.png",
    home: Home = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Audit:
    """Look at every image of `source` once, split as a search would split it.

    Args:
        source: Folder, manifest, `.npz` or built-in name.
        image_size: Height and width to decode to; the data's own by default.
        seed: Of the split.
        html: Where a page for a browser is written.
        show_augment: A space, recipe, augmentation or mixing whose work is drawn into `sheet`.
        sheet: A `.png` file.
        home: Decoded images are cached there.
        progress: Called with (done, total) while images are decoded.
        **options: Further fields of `trainable.config.DataConfig`.

    Returns:
        The findings; `to_json()` is the document of `tailtune data --json`.

    Raises:
        UsageError: If a name or value breaks a law.
        TailtuneError: If the data cannot be read, or a file not be written.
    """
    from analysis.atomic import write_atomic
    from analysis.errors import UsageError
    from trainable.component import validated
    from trainable.config import DataConfig
    from trainable.data.audit import audit
    from trainable.data.load import load_dataset
    from trainable.data.split import make_split

    for option, file in (("--html", html), ("--sheet", sheet if show_augment else None)):
        if file is not None and Path(file).is_dir():
            raise UsageError(f"{option} must name a file, but {file} is a folder", "add a name to it")
    config = validated(DataConfig, {"image_size": image_size, "split_seed": seed, **options})
    dataset = load_dataset(source, data=config, cache_dir=cache_folder(home_folder(home)), progress=progress)
    split = make_split(
        dataset,
        seed=config.split_seed,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
    )
    if show_augment is not None:
        from tailtune.contact_sheet import contact_sheet, write_sheet

        write_sheet(contact_sheet(dataset, split, show_augment, config), Path(sheet))
    found = audit(dataset, split)
    if html is not None:
        from tailtune.audit_page import page

        write_atomic(Path(html), page(found, dataset).encode())
    return found


def dashboard(
    study: str,
    *,
    home: Home = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve Optuna's dashboard on `study` until Ctrl-C.

    Args:
        study: Its name.
        home: Folder of studies.
        host: Address to bind to. There is no password: who reaches it can delete studies.
        port: None takes 8080, or any free one where that is taken.
        announce: Called with the URL before serving.
    """
    from tailtune.dashboard import serve
    from tailtune.storage import given_storage, open_storage

    opened = open_study(study, home)
    serve(open_storage(opened.folder, given_storage(opened.spec.storage)), announce, host=host, port=port)


def export(study: str, out: str | Path, *, trial: int | None = None, home: Home = None) -> dict[str, Any]:
    """Write a trial of `study` as a bundle into the folder `out`; return what it holds.

    Args:
        study: Its name.
        out: Folder to write.
        trial: Its number; None takes the best COMPLETE one.
        home: Folder of studies.
    """
    from tailtune.export import export_study

    return export_study(open_study(study, home), trial, Path(out))


def train(
    config: str | TrialConfig,
    data: str,
    out: str | Path,
    *,
    epochs: int | None = None,
    image_size: tuple[int, int] | None = None,
    pretrained: bool | None = None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    home: Home = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> dict[str, Any]:
    """Train one configuration on `data`, without a search, into the folder `out`.

    Args:
        config: A `TrialConfig`, a YAML or JSON file's path, or a recipe's name.
        data: As `search` takes it.
        out: Folder to write.
        epochs: Instead of the configuration's.
        image_size: Height and width, instead of the configuration's.
        pretrained: False starts from random weights where the configuration asks for trained ones.
        overrides: `KEY=VALUE` each, for example `optimizer.lr=0.1`.
        seed: Of initialisation, order and augmentation, instead of the configuration's.
        home: Decoded images are cached there.
        on_epoch: Is given each epoch's report.
    """
    from tailtune.export import train_config
    from tailtune.overrides import overridden

    changes = list(overrides)
    changes += [] if epochs is None else [f"epochs={epochs}"]
    changes += [] if seed is None else [f"seed={seed}"]
    changes += [] if image_size is None else [f"data.image_size=[{image_size[0]}, {image_size[1]}]"]
    changes += [] if pretrained is None else [f"backbone.pretrained={str(pretrained).lower()}"]
    whole = overridden(configuration(config), changes)
    return train_config(whole, data, Path(out), cache_dir=cache_folder(home_folder(home)), on_epoch=on_epoch)


def configuration(config: str | TrialConfig) -> TrialConfig:
    """Return the configuration in a file, or of a recipe.

    Raises:
        UsageError: If there is neither.
    """
    from search_spaces.recipe_book import load_recipe
    from trainable.config import TrialConfig

    if isinstance(config, TrialConfig):
        return config
    looks_like_file = "/" in config or Path(config).suffix in {".yaml", ".yml", ".json"}
    return TrialConfig.from_file(config) if looks_like_file or Path(config).is_file() else load_recipe(config)


def open_study(study: str, home: Home = None) -> Study:
    """Return the study called `study`.

    Raises:
        TailtuneError: If there is none in `home`.
    """
    from tailtune.study import Study

    check_study_name(study)
    return Study.open(home_folder(home), study)


def spaces() -> list[dict[str, str]]:
    """Return the named spaces: `[{"name", "source", "summary"}]`."""
    from search_spaces.space import list_spaces

    return [_entry(found) for found in list_spaces()]


def space(name: str) -> dict[str, str]:
    """Return one space: `{"name", "yaml"}`."""
    from search_spaces.space import load_space

    return {"name": name, "yaml": load_space(name).to_yaml()}


def recipes() -> list[dict[str, str]]:
    """Return the recipes: `[{"name", "source", "summary"}]`."""
    from search_spaces.recipe_book import list_recipes

    return [_entry(found) for found in list_recipes()]


def recipe(name: str, *, plot_schedule: str | Path | None = None) -> dict[str, str]:
    """Return one recipe: `{"name", "yaml"}`; draw its learning-rate schedule where a file is given."""
    from search_spaces.recipe_book import load_recipe

    config = load_recipe(name)
    if plot_schedule is None:
        return {"name": name, "yaml": config.to_yaml()}
    from tailtune.schedule_plot import plot_schedule as draw

    draw(config, Path(plot_schedule))
    return {"name": name, "yaml": config.to_yaml(), "schedule": str(plot_schedule)}


def lr_find(
    config: str | TrialConfig,
    data: str,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    out: str | Path | None = None,
    space_out: str | Path | None = None,
    space: str = "default",
    image_size: tuple[int, int] | None = None,
    pretrained: bool | None = None,
    home: Home = None,
) -> dict[str, Any]:
    """Test a range of learning rates; suggest the one at which the loss falls fastest.

    Args:
        config: As `train` takes it.
        data: As `search` takes it.
        low: First rate.
        high: Last rate.
        steps: Optimizer steps.
        out: Folder for the curve as JSON and HTML.
        space_out: File for a space narrowed to rates about the suggestion.
        space: The space that it narrows.
        image_size: Height and width, instead of the configuration's.
        pretrained: False starts from random weights where the configuration asks for trained ones.
        home: Decoded images are cached there.

    Returns:
        See `tailtune.lr_finder.run_lr_find`.
    """
    from tailtune.lr_finder import run_lr_find
    from tailtune.overrides import overridden

    changes = [] if image_size is None else [f"data.image_size=[{image_size[0]}, {image_size[1]}]"]
    changes += [] if pretrained is None else [f"backbone.pretrained={str(pretrained).lower()}"]
    return run_lr_find(
        overridden(configuration(config), changes),
        data,
        cache_dir=cache_folder(home_folder(home)),
        low=low,
        high=high,
        steps=steps,
        out=None if out is None else Path(out),
        space_out=None if space_out is None else Path(space_out),
        space=space,
    )


def doctor(*, home: Home = None) -> Diagnosis:
    """Look at what this machine has, and what of it keeps a search from running."""
    from tailtune.doctor import examine

    return examine(home_folder(home))


def _entry(found: Any) -> dict[str, str]:
    return {"name": found.name, "source": found.source, "summary": found.summary}

"""`search`, `resume` and `stop`: the commands that make trials run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tailtune.commands.answer import answer
from tailtune.commands.options import (
    DEFAULT_HOME,
    AllowOutside,
    Data,
    Debug,
    Folds,
    GroupBy,
    Home,
    ImageSize,
    Json,
    LongTail,
    LongTailSeed,
    MaxBroken,
    NoPretrained,
    RareBelow,
    RareClasses,
    StudyName,
    VerifyContent,
    duration,
    folds,
    given,
    image_size,
)

if TYPE_CHECKING:
    from tailtune.progress import Watcher
    from tailtune.study import Study

_Trials = typer.Option("--trials", metavar="N", help="Trials that the study shall have in the end.")
Concurrent = Annotated[
    int | None, typer.Option("--concurrent", metavar="K", help="Trials at a time; what the machine carries.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="`auto` or a Ray cluster's address from inside it; a local Ray by default."),
]
Budget = Annotated[
    str | None, typer.Option("--time-budget", metavar="TIME", help="Longest wall time: 90s, 30m, 2h.")
]


def enrol(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command()(search)
    app.command()(resume)
    app.command()(stop)


def search(
    data: Data,
    study: Annotated[str | None, typer.Option("--study", metavar="NAME", help="By default DATA-SPACE.")] = None,
    space: Annotated[
        str, typer.Option("--space", help="Named space, YAML file or module:function.")
    ] = "default",
    trials: Annotated[int, _Trials] = 20,
    time_budget: Budget = None,
    epochs: Annotated[
        int, typer.Option("--epochs", metavar="E", help="Epochs of a trial that is not stopped.")
    ] = 10,
    metric: Annotated[str, typer.Option("--metric", help="What is maximised: macro_f1.")] = "macro_f1",
    size: ImageSize = None,
    resize: Annotated[str, typer.Option("--resize", help="pad, stretch, crop or keep-scale.")] = "pad",
    flips: Annotated[
        str | None, typer.Option("--flips", help="Mirrorings that keep the class: none, h, v, hv or dihedral.")
    ] = None,
    cpus_per_trial: Annotated[
        float | None, typer.Option("--cpus-per-trial", metavar="X", help="CPU cores of a trial.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option("--gpus-per-trial", metavar="Y", help="GPUs of a trial, 0.5 for two on one.")
    ] = None,
    concurrent: Concurrent = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--start-from",
            help="Recipes, config files or a study, with commas between; the space's centre by default.",
        ),
    ] = None,
    widen: Annotated[
        bool, typer.Option("--widen", help="Widen the space to hold the starting points.")
    ] = False,
    no_pretrained: NoPretrained = False,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, fp32, bf16 or fp16; the space's own by default.")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile training passes: minutes at first, for GPUs.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Optuna storage; SQLite in the study's folder."),
    ] = None,
    address: Address = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split, the search and the trials.")] = 0,
    folds_: Folds = None,
    group_by: GroupBy = None,
    long_tail: LongTail = None,
    long_tail_seed: LongTailSeed = None,
    rare_classes: RareClasses = None,
    rare_below: RareBelow = None,
    allow_outside: AllowOutside = None,
    verify_content: VerifyContent = None,
    max_broken: MaxBroken = None,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Share kept for the test, where DATA has no test/.")
    ] = 0.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and an estimate of its cost.")
    ] = False,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Search DATA for the best configuration.

    The same command again goes on where it was.
    """
    from tailtune import api, progress, tables

    request: dict[str, Any] = {
        "study": study, "space": space, "trials": trials, "epochs": epochs, "metric": metric,
        "image_size": image_size(size), "resize": resize, "flips": flips, "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial, "concurrent": concurrent, "start_from": _listed(start_from),
        "pretrained": False if no_pretrained else None, "precision": precision, "compile": compile_ or None,
        "widen": widen, "storage": storage,
        "address": address, "seed": seed, "group_by": group_by,
        "test_fraction": test_fraction, "home": home, "time_budget": duration(time_budget),
    }  # fmt: skip
    request |= given(
        folds=folds(folds_),
        long_tail=long_tail, long_tail_seed=long_tail_seed, rare_classes=rare_classes, rare_below=rare_below,
        allow_outside=allow_outside, verify_content=verify_content, max_broken=max_broken,
    )  # fmt: skip
    if dry_run:
        answer(lambda: api.estimate(data, **request), as_json=json, show=tables.estimate)
        return
    watcher = progress.watcher(silent=json)
    answer(
        lambda: api.search(data, **request, watcher=watcher),
        as_json=json,
        show=lambda found: tables.finished(found, home, watcher),
        document=_document,
    )
    _leave(watcher)


def resume(
    study: StudyName,
    trials: Annotated[int | None, _Trials] = None,
    time_budget: Budget = None,
    concurrent: Concurrent = None,
    address: Address = None,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Go on with a search, or extend it with --trials."""
    from tailtune import api, progress, tables

    watcher = progress.watcher(silent=json)
    answer(
        lambda: api.resume(
            study,
            trials=trials,
            time_budget=duration(time_budget),
            concurrent=concurrent,
            address=address,
            home=home,
            watcher=watcher,
        ),
        as_json=json,
        show=lambda found: tables.finished(found, home, watcher),
        document=_document,
    )
    _leave(watcher)


def stop(study: StudyName, home: Home = DEFAULT_HOME, json: Json = False, debug: Debug = False) -> None:
    """Ask a running search to stop, resumably."""
    from tailtune import api, tables

    def show(found: dict[str, Any]) -> None:
        again = tables.command("resume", study, home)
        if found["state"] == "finished":
            print(f"{study}: finished. Extend it with: {again} --trials N")
            return
        asked = "asked to stop" if found["was_running"] else "not running"
        print(f"{study}: {asked}. Go on with: {again}")

    answer(lambda: api.stop(study, home=home), as_json=json, show=show)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _leave(watcher: Watcher) -> None:
    """Exit with 1 where Ctrl-C came before the end; a time budget or a `stop` did what was asked for."""
    if watcher.outcome is not None and watcher.outcome.ending == "interrupted":
        raise typer.Exit(1)


def _document(found: Study) -> dict[str, Any]:
    """Return the status and the ranking of a study that has been searched."""
    from tailtune import api

    return {**found.status(), "ranking": api.rank(found).to_json()["trials"]}

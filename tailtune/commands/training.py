"""`train` and `export`: the commands that leave a trained model in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tailtune.commands.answer import answer, to_json
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
    folds,
    given,
    image_size,
)

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Folder to write; must not exist, or be empty.")
]


def enrol(app: typer.Typer) -> None:
    """Add this group's commands to `app`."""
    app.command()(train)
    app.command()(export)


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG|RECIPE", help="A configuration file or a recipe's name.")
    ],
    data: Data,
    out: Out,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="E", help="Instead of the configuration's.")
    ] = None,
    size: ImageSize = None,
    no_pretrained: NoPretrained = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key: optimizer.lr=0.1")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of initialisation, order and augmentation.")
    ] = None,
    folds_: Folds = None,
    group_by: GroupBy = None,
    long_tail: LongTail = None,
    long_tail_seed: LongTailSeed = None,
    rare_classes: RareClasses = None,
    rare_below: RareBelow = None,
    allow_outside: AllowOutside = None,
    verify_content: VerifyContent = None,
    max_broken: MaxBroken = None,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train one configuration on DATA."""
    from tailtune import api, progress, tables
    from trainable.host_memory import keep_freed_memory

    keep_freed_memory()
    of_data = given(
        folds=folds(folds_),
        group_by=group_by, long_tail=long_tail, long_tail_seed=long_tail_seed, rare_classes=rare_classes,
        rare_below=rare_below, allow_outside=allow_outside, verify_content=verify_content,
        max_broken=max_broken,
    )  # fmt: skip
    overrides = [f"data.{key}={to_json(value)}" for key, value in of_data.items()] + (set_ or [])
    answer(
        lambda: api.train(
            config,
            data,
            out,
            epochs=epochs,
            image_size=image_size(size),
            pretrained=False if no_pretrained else None,
            overrides=overrides,
            seed=seed,
            home=home,
            on_epoch=None if json else progress.epoch_line,
        ),
        as_json=json,
        show=tables.bundle,
    )


def export(
    study: StudyName,
    out: Out,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", help="The best COMPLETE one by default.")
    ] = None,
    home: Home = DEFAULT_HOME,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a trial's model as files.

    Configuration, weights, class names, preprocessing and metrics.
    """
    from tailtune import api, tables

    def produce() -> dict[str, Any]:
        return api.export(study, out, trial=trial, home=home)

    answer(produce, as_json=json, show=tables.bundle)

"""`data`: what is known of a set of images before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailtune.commands.answer import answer
from tailtune.commands.options import (
    DEFAULT_HOME,
    AllowOutside,
    Data,
    Debug,
    GroupBy,
    Home,
    ImageSize,
    Json,
    LongTail,
    LongTailSeed,
    MaxBroken,
    RareBelow,
    RareClasses,
    VerifyContent,
    given,
    image_size,
)

if TYPE_CHECKING:
    from analysis.audit import Audit


def enrol(app: typer.Typer) -> None:
    """Add this group's command to `app`."""
    app.command()(data)


def data(
    data: Data,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write one page with thumbnails.")
    ] = None,
    show_augment: Annotated[
        str | None,
        typer.Option("--show-augment", metavar="NAME", help="Draw what a space, recipe or operation does."),
    ] = None,
    sheet: Annotated[
        Path, typer.Option("--sheet", metavar="FILE", help="Where --show-augment draws: a .png file.")
    ] = Path("augment.png"),
    size: ImageSize = None,
    resize: Annotated[str | None, typer.Option("--resize", help="pad, stretch, crop or keep-scale.")] = None,
    flips: Annotated[
        str | None, typer.Option("--flips", help="For --show-augment: none, h, v, hv or dihedral.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split.")] = 0,
    test_fraction: Annotated[
        float | None, typer.Option("--test-fraction", help="As `search` takes it.")
    ] = None,
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
    """Audit DATA: counts, copies, rare classes, splits.

    Says which classes are not to be trusted, and what differences validation can resolve.
    """
    from tailtune import api, progress

    watcher = progress.watcher(silent=json)
    options = given(
        resize=resize, flips=flips, test_fraction=test_fraction, group_by=group_by, long_tail=long_tail,
        long_tail_seed=long_tail_seed, rare_classes=rare_classes, rare_below=rare_below,
        allow_outside=allow_outside, verify_content=verify_content, max_broken=max_broken,
    )  # fmt: skip

    def show(found: Audit) -> None:
        from tailtune.audit_table import show_audit

        show_audit(found)
        for written in (html, sheet if show_augment else None):
            if written is not None:
                print(f"wrote {written}")

    def look() -> Audit:
        with watcher:
            return api.data(
                data,
                image_size=image_size(size),
                seed=seed,
                html=html,
                show_augment=show_augment,
                sheet=sheet,
                home=home,
                progress=watcher.decoding,
                **options,
            )

    answer(
        look,
        as_json=json,
        show=show,
        document=lambda found: found.to_json(),
    )

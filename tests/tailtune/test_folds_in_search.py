"""`--folds`: a number before anything runs, the same for every trial, and ASHA's resource counts all folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import UsageError
from tailtune.commands.options import folds
from tailtune.launch import prepare
from tailtune.planning import Request
from tailtune.progress import Lines, Watcher
from tests.trainable.data.images import class_folders


def request(home: Path, **changes: object) -> Request:
    return Request(data="digits-lt", space="tiny", epochs=4, home=home, **changes)


def test_auto_becomes_a_number_and_the_resource_counts_all_folds(tmp_path: Path) -> None:
    spec = prepare(request(tmp_path, folds="auto"), Watcher()).spec
    assert spec.base.data.folds == 3
    assert spec.trial_epochs == 12
    assert prepare(request(tmp_path), Watcher()).spec.trial_epochs == 4


def test_more_folds_than_a_class_has_images_are_refused_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folds must be at most the images"):
        prepare(request(tmp_path, folds=60), Watcher())


def test_a_class_too_small_for_the_folds_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "data", {"common": 12, "lonely": 1, "seldom": 6})
    few = Request(data=str(root), space="tiny", epochs=1, home=tmp_path / "home", folds=2)
    notes = prepare(few, Watcher()).notes
    assert notes == ("classes too small to split (1) train in every fold, never validated: lonely",)
    Lines().noted(notes)
    assert capsys.readouterr().out == f"note: {notes[0]}\n"


def test_the_option_takes_a_number_or_auto() -> None:
    assert (folds("3"), folds("auto"), folds(None)) == (3, "auto", None)
    for text in ("0", "-2", "three"):
        with pytest.raises(UsageError, match="--folds"):
            folds(text)

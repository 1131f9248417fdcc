"""`--folds`: a number before anything runs, the same for every trial, and ASHA's resource counts all folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import UsageError
from tailtune.commands.options import folds
from tailtune.launch import prepare
from tailtune.planning import Request
from tailtune.progress import Watcher


def request(home: Path, **changes: object) -> Request:
    return Request(data="digits-lt", space="tiny", epochs=4, home=home, **changes)  # type: ignore[arg-type]


def test_auto_becomes_a_number_and_the_resource_counts_all_folds(tmp_path: Path) -> None:
    spec = prepare(request(tmp_path, folds="auto"), Watcher()).spec
    assert spec.base.data.folds == 3
    assert spec.trial_epochs == 12
    assert prepare(request(tmp_path), Watcher()).spec.trial_epochs == 4


def test_more_folds_than_a_class_has_images_are_refused_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="folds must be at most the images"):
        prepare(request(tmp_path, folds=60), Watcher())


def test_the_option_takes_a_number_or_auto() -> None:
    assert (folds("3"), folds("auto"), folds(None)) == (3, "auto", None)
    for text in ("0", "-2", "three"):
        with pytest.raises(UsageError, match="--folds"):
            folds(text)

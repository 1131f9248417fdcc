"""A worker's first imports: the trainable, and garbage collected again after; a failure is the trial's."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from trainable import worker_start


def test_a_fresh_process_has_the_trainable_and_collects_garbage_again():
    code = (
        "import gc, sys; from trainable.worker_start import load, TRAINABLE; assert 'torch' not in sys.modules;"
        "load(); assert TRAINABLE in sys.modules and 'torch' in sys.modules; assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("collects", [True, False])
def test_a_failure_is_left_to_the_first_trial(monkeypatch, collects):
    monkeypatch.setattr(worker_start, "TRAINABLE", "no.such.module")
    (gc.enable if collects else gc.disable)()
    try:
        worker_start.load()
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_ray_is_told_of_it_by_a_name_that_exists():
    from ray._common.utils import load_class

    from tailtune.ray_runtime import _FIRST

    assert load_class(_FIRST) is worker_start.load

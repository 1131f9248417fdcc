"""Trials that no machine can hold are refused; they would wait for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import TailtuneError
from tailtune.ray_runtime import connected_ray, require_room


@pytest.mark.timeout(900)  # Ray takes a minute to start where the machine is busy
def test_what_fits_on_no_node_is_refused(tmp_path: Path) -> None:
    with connected_ray(tmp_path, 2):
        require_room(2, 0)
        with pytest.raises(TailtuneError, match="asks for 2 CPUs and 64 GPUs and the largest has 2 and"):
            require_room(2, 64)
        with pytest.raises(TailtuneError, match="asks for 3 CPUs"):
            require_room(3, 0)

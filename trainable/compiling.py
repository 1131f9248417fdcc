"""`torch.compile` for a trial's training passes, by choice, with compiled kernels shared between trials."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError


def require_compiler() -> None:
    """Refuse a machine on which nothing can be compiled.

    Raises:
        TailtuneError: If there is no C++ compiler, which torch needs for it.
    """
    wanted = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted) is None:
        raise TailtuneError(
            f"training.compile needs a C++ compiler, but there is no {wanted}",
            "install one, name it in CXX, or leave training.compile off",
        )


def compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return `model` behind `torch.compile`: the same parameters, compiled at the first pass.

    torch keeps what it has compiled, for other trials and processes of the same user on the same machine, where
    TORCHINDUCTOR_CACHE_DIR says or else in the system's folder for temporary files.

    Args:
        model: On its device. It stays as it is: validation and averages go through it uncompiled.

    Raises:
        TailtuneError: If there is no C++ compiler, which torch needs for it.
    """
    require_compiler()
    # Networks of one class share their compiled versions, those of ended trials too, and only eight are kept.
    # Shapes are fixed: what a resumed trial compiles must not depend on which shape came first.
    torch.compiler.reset()
    return torch.compile(model, dynamic=False)

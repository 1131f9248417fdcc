"""What this processor is, as far as kernels that were measured on it go."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def model_name() -> str:
    """Return its maker's name for it, or what the platform knows."""
    return _said("model name") or platform.processor()


@lru_cache(maxsize=1)
def is_intel_avx512() -> bool:
    """Return whether it is one of Intel's on which torch computes with AVX-512 and MKL."""
    has_mkl: Callable[[], bool] = torch.backends.mkl.is_available
    capability: Callable[[], str] = torch.backends.cpu.get_cpu_capability
    return has_mkl() and capability() == "AVX512" and _said("vendor_id") == "GenuineIntel"


def _said(what: str) -> str:
    """Return what Linux says of the first core, "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(what)), "")


__all__ = ["is_intel_avx512", "model_name"]

"""Where randomness comes from: a seed for each purpose, derived from the trial's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2^63) that depends on every part, for example trial seed, epoch and purpose."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(device: torch.device, *parts: int | str) -> torch.Generator:
    """Return a generator on `device`, seeded by `derived_seed(*parts)`."""
    generator = torch.Generator(device)
    generator.manual_seed(derived_seed(*parts))
    return generator


@contextmanager
def seeded(device: torch.device, *parts: int | str) -> Iterator[None]:
    """Seed torch's global generators for what takes no other (initialisation, dropout), then restore them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices, enabled=True):
        torch.manual_seed(derived_seed(*parts))
        yield

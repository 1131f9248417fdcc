"""Seeds derived from seeds: one for each purpose, the same on every machine and in every process."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2^32) that depends on `seed` and on what it is for.

    >>> derived_seed(0, "trial", 3) == derived_seed(0, "trial", 3) != derived_seed(0, "trial", 4)
    True
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

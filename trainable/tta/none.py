"""The image alone."""

from __future__ import annotations

from typing import Literal

from trainable.augment import Flips
from trainable.tta._base import TTA, View, ViewSet


@TTA.add
class NoTta(ViewSet):
    """No further views."""

    name: Literal["none"] = "none"

    def views(self, flips: Flips) -> tuple[View, ...]:
        """Return none."""
        return ()

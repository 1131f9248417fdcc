"""No correction."""

from __future__ import annotations

from typing import Literal

from trainable.posthoc._base import POSTHOC, PostHoc


@POSTHOC.add
class NoPostHoc(PostHoc):
    """The network's own logits."""

    name: Literal["none"] = "none"

"""In which number format a trial trains: fp32, bf16, or fp16 with a gradient scaler."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch

PrecisionName = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Precision:
    """A number format and a memory layout, chosen once for a trial.

    Attributes:
        name: `fp32`, `bf16` or `fp16`.
        channels_last: Whether images and convolutions are laid out channels-last.
    """

    name: PrecisionName
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images and of the model's weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Return the context in which forward passes run."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype=dtype, enabled=self.name != "fp32")

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing unless the format is fp16."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")


def resolve_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device) -> Precision:
    """Return the format for `wanted`: `auto` is bf16 on a GPU that computes in it, else fp32.

    On a CPU the faster format depends on the network (depthwise ones are slower in bf16), so that
    `auto` stays with fp32 there; see `docs/decisions.md`.
    """
    if wanted != "auto":
        return Precision(wanted, channels_last=True)
    if device.type == "cuda":
        return Precision("bf16" if torch.cuda.is_bf16_supported() else "fp16", channels_last=True)
    return Precision("fp32", channels_last=True)

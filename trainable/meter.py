"""What an epoch leaves in the books: losses, time, throughput, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainable.step import StepResult


class LossMeter:
    """Losses of an epoch, gathered on the device without waiting for it.

    Args:
        device: Where the losses are.
        tolerates_overflow: Whether a gradient scaler skips steps that overflow (fp16).
        keeps_images: Whether the batch sampler wants each image's loss.
    """

    def __init__(self, device: torch.device, *, tolerates_overflow: bool, keeps_images: bool) -> None:
        self.steps = 0
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._finite = torch.zeros((), dtype=torch.int64, device=device)
        self._tolerates, self._keeps = tolerates_overflow, keeps_images
        self._images: list[tuple[Tensor, Tensor]] = []

    def add(self, result: StepResult, positions: Tensor) -> None:
        """Count a step on the images at `positions` of the training split."""
        finite = torch.isfinite(result.loss)
        self._sum += torch.where(finite, result.loss, 0.0)
        self._finite += finite
        self.steps += 1
        if self._keeps:
            self._images.append((positions, result.per_image))

    def mean(self) -> float:
        """Return the mean loss of the steps whose loss was finite."""
        return float(self._sum) / max(1, int(self._finite))

    @property
    def not_finite(self) -> int:
        """Steps whose loss was not finite."""
        return self.steps - int(self._finite)

    @property
    def tolerated(self) -> int:
        """Such steps that do not yet make a divergence: half of them under a scaler, else none."""
        return self.steps // 2 if self._tolerates else 0

    def per_image(self) -> tuple[NDArray[np.int64], Tensor]:
        """Return positions `(M,)` and losses `(M,)` of the images seen, if they were kept."""
        if not self._images:
            return np.zeros(0, dtype=np.int64), torch.zeros(0)
        positions, losses = zip(*self._images, strict=True)
        return torch.cat(positions).cpu().numpy(), torch.cat(losses).cpu()


class Meter:
    """Clock and memory gauge of one trial in one process.

    Args:
        device: The trial's device; its peak memory is reset now.
        wall_seconds: Seconds that earlier attempts at the trial have taken.
        train_seconds: Of those, seconds in training batches.
        images: Training images seen so far.
    """

    def __init__(
        self, device: torch.device, wall_seconds: float = 0.0, train_seconds: float = 0.0, images: int = 0
    ) -> None:
        self.device = device
        self.train_seconds = train_seconds
        self.images = images
        self.predict_images_per_second: float | None = None
        self._before = wall_seconds
        self._start = self._lap = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        reset_host_peak()

    @property
    def wall_seconds(self) -> float:
        """Seconds of this trial, earlier attempts included."""
        return self._before + time.perf_counter() - self._start

    def lap(self) -> float:
        """Return seconds since the last call, or since the start."""
        now = time.perf_counter()
        seconds, self._lap = now - self._lap, now
        return seconds

    def state(self) -> dict[str, float | int]:
        """Return the arguments that a later attempt's meter goes on from."""
        return {
            "wall_seconds": self.wall_seconds,
            "train_seconds": self.train_seconds,
            "images": self.images,
        }

    @property
    def images_per_second(self) -> float:
        """Training images a second of training (evaluation apart)."""
        return self.images / self.train_seconds if self.train_seconds > 0 else 0.0

    @contextmanager
    def training(self, images: int) -> Iterator[None]:
        """Count what happens inside as training on `images` images."""
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.train_seconds += time.perf_counter() - start
        self.images += images

    @contextmanager
    def predicting(self, images: int) -> Iterator[None]:
        """Count what happens inside as the prediction of `images` images; the newest rate is kept."""
        start = time.perf_counter()
        yield  # the logits are read back inside, so that nothing is still under way on a GPU
        self.predict_images_per_second = images / max(time.perf_counter() - start, 1e-9)

    def peak_device_bytes(self) -> int | None:
        """Return the most memory that torch held on the GPU, or None without one."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def reset_host_peak() -> None:
    """Start the process's peak resident size anew, where the system lets it (Linux).

    A reused worker would otherwise report the largest trial that it ever ran.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_host_bytes() -> int:
    """Return the process's peak resident size in bytes since the last reset (else since its start)."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""What `precision: auto` means: on a GPU bf16 or fp32, on older ones fp16; on a CPU what a timing says."""

from __future__ import annotations

import contextlib
import json
import os
import time
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from trainable.config import TrialConfig
from trainable.cpu_kernels import KERNELS
from trainable.precision import (
    Precision,
    PrecisionName,
    as_they_were,
    gpu_computes_bf16,
    keep_in_fp32,
    wants_channels_last,
)
from trainable.processor import model_name
from trainable.seeding import seeded
from trainable.techniques import Features

TIMED_IMAGES = 32
WORTH, WORTH_IN_LARGE_BATCHES = 0.95, 1.05
"""bf16 is chosen below this share of fp32's time, so that a tie goes to the exact format. From twice as many
images as are timed on, bf16 is further ahead, at 128 by 3 to 8 %: what a layer costs once weighs less."""
DOUBTFUL = 1.2
"""bf16 that two rounds find not worth it is timed once more, alone, below this share: one slow pass of its
would say so."""
OBVIOUS = 1.6
"""bf16 that takes so many times as long in the first round, where fp32 bears what is done once, is out."""


def resolve_precision(
    config: TrialConfig,
    model: nn.Module,
    image_size: tuple[int, int],
    channels: int,
    num_images: int,
    device: torch.device,
    cache_dir: Path | None,
) -> Precision:
    """Return the number format of a trial.

    Args:
        config: Its `training.precision` is followed, or chosen for where it is `auto`.
        model: The trial's own, still on the CPU; timed where that has to be, and left with its weights and
            statistics as they were, laid out channels-last.
        image_size: Height and width that it will see.
        channels: Of its input.
        num_images: That an epoch trains on and validates with.
        device: Where the trial trains.
        cache_dir: Where timings are kept for trials of the same network, shape and machine; None: in memory.
    """
    wanted = config.training.precision
    if device.type == "cuda":
        name = wanted if wanted != "auto" else "bf16" if gpu_computes_bf16() else "fp16"
        shown = _times_shown(config) * num_images
        channels_last = wants_channels_last(model, image_size, channels, device, shown, name)
        if wanted == "auto" and not channels_last:
            name = "fp32"  # as quick there, its kernels are loaded sooner: benchmarks/format_on_gpu.py
        return Precision(name, channels_last)
    if wanted != "auto":
        return Precision(wanted, channels_last=True)
    if config.frozen.active or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return Precision("fp32", channels_last=True)
    backbone = config.backbone.model_copy(update={"drop_rate": 0.0, "drop_path_rate": 0.0})
    threads = torch.get_num_threads()
    large = config.batch_size // config.training.accumulate >= 2 * TIMED_IMAGES
    worth = WORTH_IN_LARGE_BATCHES if large else WORTH
    parts = (
        KERNELS,
        worth,
        config.training.compile,
        backbone.model_dump_json(),
        image_size,
        channels,
        threads,
        torch.__version__,
        model_name(),
    )
    key = sha256(repr(parts).encode()).hexdigest()[:16]
    known = _read(cache_dir)
    if key not in known:
        with seeded(device, "timing"):
            known[key] = faster_precision(model, image_size, channels, worth)
        _write(cache_dir, known)
    return Precision(known[key], channels_last=True)


def _times_shown(config: TrialConfig) -> int:
    """Return how often the trial shows its network an image; folds run in one process, on the same shapes."""
    if isinstance(config.frozen, Features):
        return 1 + config.frozen.views
    folds = 3 if config.data.folds == "auto" else config.data.folds
    return folds * config.epochs


def faster_precision(
    model: nn.Module, image_size: tuple[int, int], channels: int, worth: float
) -> PrecisionName:
    """Return which of fp32 and bf16 trains `model` faster on this CPU; processor time, best of a few rounds.

    Args:
        model: Left with its weights and statistics as they were, laid out channels-last, without gradients.
        image_size: Height and width in pixels.
        channels: Of its input.
        worth: Share of fp32's time, above 0, below which bf16 is chosen.
    """
    kept = keep_in_fp32(model, image_size, channels)
    was_training, before = model.training, {key: buffer.clone() for key, buffer in model.named_buffers()}
    model.to(memory_format=torch.channels_last).train()
    images = torch.rand(TIMED_IMAGES, channels, *image_size).contiguous(memory_format=torch.channels_last)
    best = {"fp32": float("inf"), "bf16": float("inf")}
    rounds: tuple[tuple[PrecisionName, ...], ...] = (("fp32", "bf16"), ("fp32", "bf16"), ("bf16",))
    for number, names in enumerate(rounds):
        for name in names:
            model.zero_grad(set_to_none=True)
            start = time.process_time()
            with Precision(name, channels_last=True).autocast(torch.device("cpu")):
                logits = model(images)
            logits.float().square().mean().backward()
            best[name] = min(best[name], time.process_time() - start)
        share = best["bf16"] / best["fp32"]
        if share > OBVIOUS or (number > 0 and not worth <= share < DOUBTFUL):
            break
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    for key, buffer in model.named_buffers():
        buffer.copy_(before[key])
    as_they_were(model, kept)
    return "bf16" if share < worth else "fp32"


_MEMORY: dict[str, PrecisionName] = {}


def _read(cache_dir: Path | None) -> dict[str, PrecisionName]:
    if cache_dir is None:
        return _MEMORY
    try:
        found: dict[str, PrecisionName] = json.loads((cache_dir / "precision.json").read_text())
        return found
    except (OSError, ValueError):
        return {}


def _write(cache_dir: Path | None, known: dict[str, PrecisionName]) -> None:
    """Keep the timings; that they cannot be written costs the next trial a second, and nothing else."""
    if cache_dir is None:
        return
    with contextlib.suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        draft = cache_dir / f".precision-{os.getpid()}.json"
        draft.write_text(json.dumps(known))
        draft.replace(cache_dir / "precision.json")

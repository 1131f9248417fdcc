"""State on disk: a resumable checkpoint, and the weights of the chosen epoch; written whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from analysis.errors import TailtuneError
from analysis.records import RecordFolder
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.frozen_features import FrozenNetwork

FORMAT = 2


def save_checkpoint(record: RecordFolder, state: dict[str, Any], attempt: str | None) -> None:
    """Write `state` (tensors, numbers, strings and containers of them) as the record's checkpoint.

    Raises:
        Superseded: If another attempt holds the record.
        CannotWrite: If the disk is full, or the folder cannot be written.
    """

    def save(file: BinaryIO) -> None:
        try:
            torch.save({"format": FORMAT, **state}, file)
        except RuntimeError as error:
            # torch's writer, closed on a full disk, speaks of nothing but its own position.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

    record.write_bytes("checkpoint.pt", save, attempt)


def load_checkpoint(
    record: RecordFolder | None, device: torch.device, config: TrialConfig
) -> dict[str, Any] | None:
    """Return the record's checkpoint with its tensors on `device`, or None where there is none to use.

    A checkpoint of an older format is passed over: its trial is trained anew.

    Raises:
        TailtuneError: If the file cannot be read, a newer tailtune wrote it, or it is of a trial other
            than `config`.
    """
    path = None if record is None else record.path / "checkpoint.pt"
    if path is None or not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0][:120]
        raise TailtuneError(f"checkpoint {path} cannot be read: {reason}", "delete it to train anew") from None
    if state.get("format", 0) < FORMAT:
        return None
    if state["format"] != FORMAT:
        raise TailtuneError(
            f"checkpoint {path} has format {state.get('format')}, this tailtune reads {FORMAT}",
            "use the tailtune that wrote it, or delete it to train anew",
        )
    if "config" in state:
        # Compared as a whole configuration: one from before a field was added has that field's default.
        theirs = validated(TrialConfig, state["config"], f"checkpoint {path}")
        if (theirs.fingerprint(), theirs.seed) != (config.fingerprint(), config.seed):
            raise TailtuneError(
                f"a trial goes on from a checkpoint of its own, but {path} is of another configuration or seed",
                "delete it to train anew",
            )
    return state


def copy_weights(model: nn.Module, into: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the model's parameters and buffers to the CPU; return `into`, whose tensors are used again.

    What `into` has of a frozen network's frozen layers is taken to be theirs.
    """
    known = model.frozen_keys & into.keys() if isinstance(model, FrozenNetwork) else set()
    # Safetensors wants no tensors that share their memory. Laid out as they are, they are copied at once.
    for key, value in model.state_dict().items():
        if key in known:
            continue
        held = into.get(key)
        if held is None or held.shape != value.shape or held.stride() != value.stride():
            held = into[key] = torch.empty_like(value, device="cpu")
        held.copy_(value.detach())
    return into


def save_weights(record: RecordFolder, tensors: Mapping[str, Tensor], epoch: int, attempt: str | None) -> None:
    """Write parameters and buffers as the record's `best.safetensors`.

    Args:
        record: Where to.
        tensors: As `copy_weights` returns them.
        epoch: Theirs, from 1.
        attempt: Id of the attempt that writes.
    """

    def write(file: BinaryIO) -> None:
        # By its name: `save` would return the bytes, copied twice. The file may come to be its owner's alone.
        file.truncate(0)  # else the room that was asked for is held beside it
        try:
            save_file(
                {key: value.contiguous() for key, value in tensors.items()}, file.name, {"epoch": str(epoch)}
            )
        except SafetensorError as error:  # a full disk
            raise OSError(str(error)) from None
        os.chmod(file.name, stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.seek(0, os.SEEK_END)

    record.write_bytes("best.safetensors", write, attempt)


def epoch_of_weights(path: Path) -> int | None:
    """Return the epoch of the weights at `path`, or None where they do not say it, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["epoch"])
    except (OSError, SafetensorError, TypeError, KeyError):
        return None


def load_weights(path: Path, model: nn.Module) -> None:
    """Give `model` the weights in the safetensors file at `path`, every key strictly.

    Raises:
        TailtuneError: If the file is not there, is damaged, or belongs to another model.
    """
    try:
        model.load_state_dict(load_file(path), strict=True)
    except FileNotFoundError:
        raise TailtuneError(f"no weights at {path}", "they may have gone by the retention rule") from None
    except Exception as error:
        reason = str(error).splitlines()[0][:160]
        raise TailtuneError(f"weights {path} do not fit the model: {reason}") from None

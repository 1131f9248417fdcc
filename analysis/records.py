"""The record that a trial leaves on disk: read and written here and nowhere else.

`HOME/STUDY/trials/<number>/` holds config.yaml, trial.json, summary.json, epochs.jsonl, confusions/,
predictions.npz, checkpoint.pt, best.safetensors and attempt. Readers take any former state: a file that is
not there yet is None or empty, unknown keys are passed over, and a damaged file is named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from analysis.atomic import Claim, Content, Superseded, write_atomic, write_error
from analysis.errors import TailtuneError
from analysis.record_types import FORMAT, Cost, EpochRow, Predictions, Summary, TrialInfo, TrialState

T = TypeVar("T")
_OF_EPOCHS = ("summary.json", "epochs.jsonl", "predictions.npz", "checkpoint.pt", "best.safetensors")

__all__ = [
    "CorruptRecord",
    "Cost",
    "EpochRow",
    "Predictions",
    "RecordFolder",
    "Summary",
    "Superseded",
    "TrialInfo",
    "TrialRecord",
    "TrialState",
    "read_study",
]


class CorruptRecord(TailtuneError):
    """A file of a record that cannot be read as what it should be."""


class RecordFolder:
    """One trial's folder.

    A writer that gives its attempt's id gets `Superseded` once another attempt has claimed the folder.

    Args:
        path: `HOME/STUDY/trials/<number>`; made by the first write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lines: list[tuple[EpochRow, bytes]] = []
        """What was written last of epochs.jsonl: nearly all of it is written again after the next epoch."""

    def __repr__(self) -> str:
        return f"RecordFolder({str(self.path)!r})"

    def claim(self, attempt: str) -> None:
        """Make `attempt` the only one that may write here from now on."""
        Claim(self.path, attempt).take()

    def write_bytes(
        self, name: str, content: Content, attempt: str | None = None, *, durable: bool = False
    ) -> None:
        """Write the file `name` of the record, whole or not at all; see `write_atomic`."""
        claim = None if attempt is None else Claim(self.path, attempt)
        write_atomic(self.path / name, content, claim=claim, durable=durable)

    @property
    def config_yaml(self) -> str | None:
        """The trial's resolved configuration, or None before it was asked."""
        return self._text("config.yaml")

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        self.write_bytes("config.yaml", text.encode())

    @property
    def trial(self) -> TrialInfo | None:
        """What the driver wrote, or None."""
        return self._parsed("trial.json", _TRIAL)

    def write_trial(self, info: TrialInfo) -> None:
        """Write trial.json; the last version waits for the disk, for Optuna is told next."""
        self.write_bytes("trial.json", _json(info), durable=info.state.ended)

    @property
    def summary(self) -> Summary | None:
        """What the trial wrote after its newest epoch, or None."""
        return self._parsed("summary.json", _SUMMARY)

    def write_summary(self, summary: Summary, attempt: str | None = None) -> None:
        """Write summary.json."""
        self.write_bytes("summary.json", _json(summary), attempt)

    def epochs(self) -> list[EpochRow]:
        """Return the rows of epochs.jsonl in order, none where there is no such file."""
        lines = (self._text("epochs.jsonl") or "").splitlines()
        return [self._valid("epochs.jsonl", _ROW, line, f" line {at}") for at, line in enumerate(lines, 1)]

    def write_epochs(self, rows: list[EpochRow], attempt: str | None = None) -> None:
        """Write all of epochs.jsonl."""
        known = {id(row): line for row, line in self._lines}
        self._lines = [(row, known.get(id(row)) or _json(row)) for row in rows]
        self.write_bytes("epochs.jsonl", b"".join(line for _, line in self._lines), attempt)

    def append_epoch(self, row: EpochRow, attempt: str | None = None) -> None:
        """Put `row` after the epochs before it; the same or later ones, from before a resume, go."""
        self.write_epochs([*(kept for kept in self.epochs() if kept.epoch < row.epoch), row], attempt)

    def predictions(self) -> Predictions | None:
        """Return the stored predictions, or None."""
        arrays = self._arrays("predictions.npz", ("logits", "targets", "indices", "epoch"))
        if arrays is None:
            return None
        logits, targets, indices, epoch = arrays
        if logits.ndim != 2 or not len(logits) == len(targets) == len(indices):
            raise CorruptRecord(f"{self.path / 'predictions.npz'} is damaged: its arrays differ in length")
        labels, positions = targets.astype(np.int64), indices.astype(np.int64)
        return Predictions(logits.astype(np.float16, copy=False), labels, positions, int(epoch))

    def write_predictions(self, predictions: Predictions, attempt: str | None = None) -> None:
        """Write predictions.npz."""
        arrays = {f.name: np.asarray(getattr(predictions, f.name)) for f in dataclasses.fields(predictions)}
        self.write_bytes("predictions.npz", _npz(arrays), attempt)

    def confusions(self) -> dict[int, NDArray[np.int32]]:
        """Return the confusion matrix of each epoch, in order."""
        names = sorted(path.stem for path in (self.path / "confusions").glob("[0-9]*.npz"))
        found = {int(name): self._arrays(f"confusions/{name}.npz", ("confusion",)) for name in names}
        return {epoch: arrays[0] for epoch, arrays in found.items() if arrays is not None}

    def write_confusion(self, epoch: int, confusion: NDArray[Any], attempt: str | None = None) -> None:
        """Write the confusion matrix of `epoch` (from 1)."""
        content = _npz({"confusion": confusion.astype(np.int32)}, compress=True)
        self.write_bytes(f"confusions/{epoch:04d}.npz", content, attempt)

    def drop(self, attempt: str | None, *, after: int) -> None:
        """Delete what speaks of epochs later than `after`, which are trained again; all of them where it is 0.

        Raises:
            Superseded: If another attempt has claimed the folder.
            CannotWrite: If the folder cannot be written.
        """
        stale = [
            path
            for path in (self.path / "confusions").glob("[0-9]*.npz")
            if path.stem.isdecimal() and int(path.stem) > after
        ]
        if after == 0:
            stale += [path for name in _OF_EPOCHS if (path := self.path / name).exists()]
        if not stale:
            return
        with contextlib.nullcontext() if attempt is None else Claim(self.path, attempt).held():
            for path in stale:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    raise write_error(path, error) from None

    def load(self) -> TrialRecord:
        """Return trial and summary as one; what cannot be read makes a FAIL with the file named."""
        number = int(self.path.name) if self.path.name.isdecimal() else 0
        try:
            info, summary = self.trial, self.summary
        except CorruptRecord as error:
            info, summary = TrialInfo(number=number, state=TrialState.FAIL, reason=error.message), None
        return TrialRecord(self, info or TrialInfo(number=number, state=TrialState.WAITING), summary)

    def _text(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CorruptRecord(f"{self.path / name} cannot be read: {error}") from None

    def _parsed(self, name: str, adapter: TypeAdapter[T]) -> T | None:
        text = self._text(name)
        return None if text is None else self._valid(name, adapter, text)

    def _valid(self, name: str, adapter: TypeAdapter[T], text: str, where: str = "") -> T:
        path = self.path / name
        try:
            written_by = json.loads(text).get("format", FORMAT)
            if written_by <= FORMAT:
                return adapter.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in first["loc"])
            raise CorruptRecord(f"{path}{where} is damaged: {at}: {first['msg'].lower()}") from None
        except (ValueError, AttributeError, TypeError) as error:
            raise CorruptRecord(f"{path}{where} is damaged: {str(error)[:120]}") from None
        law = f"{path} has format {written_by}, this tailtune reads up to {FORMAT}"
        raise CorruptRecord(law, "use the tailtune that wrote it, or a newer one")

    def _arrays(self, name: str, keys: tuple[str, ...]) -> list[NDArray[Any]] | None:
        path = self.path / name
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return [archive[key] for key in keys]
        except FileNotFoundError:
            return None
        except Exception as error:  # zipfile, zlib, EOF and key errors all mean the same here
            raise CorruptRecord(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from None


@dataclass(frozen=True)
class TrialRecord:
    """A trial as its record tells it; `dataclasses.replace` overlays what Optuna knows better."""

    folder: RecordFolder
    info: TrialInfo
    summary: Summary | None = None

    @property
    def number(self) -> int:
        """Optuna's number."""
        return self.info.number

    @property
    def state(self) -> TrialState:
        """Where it stands."""
        return self.info.state

    @property
    def diverged(self) -> str | None:
        """Why loss or logits stopped being finite, or None."""
        return None if self.summary is None else self.summary.diverged

    @property
    def epochs(self) -> int:
        """Epochs trained."""
        return 0 if self.summary is None else self.summary.epoch

    @property
    def cost(self) -> Cost:
        """What it took so far."""
        return Cost() if self.summary is None else self.summary.cost


def read_study(folder: str | Path) -> list[TrialRecord]:
    """Return the records of every trial in a study's folder, by number; no Optuna needed.

    Raises:
        TailtuneError: If it is no study's folder.
    """
    trials = Path(folder) / "trials"
    if not trials.is_dir():
        raise TailtuneError(f"{folder} is no study: it has no folder 'trials'", "name the study's own folder")
    numbers = sorted(int(path.name) for path in trials.iterdir() if path.name.isdecimal() and path.is_dir())
    return [RecordFolder(trials / str(number)).load() for number in numbers]


_TRIAL = TypeAdapter(TrialInfo)
_SUMMARY = TypeAdapter(Summary)
_ROW = TypeAdapter(EpochRow)


def _json(value: TrialInfo | Summary | EpochRow) -> bytes:
    """Return one line of JSON; NaN and infinity are refused."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain)
    except ValueError:
        raise ValueError(f"a record holds finite numbers only, got {value}") from None
    return text.encode() + b"\n"


def _plain(value: object) -> object:
    """Return a number of numpy's as Python's own, and a dataclass as its fields."""
    if isinstance(value, np.generic):
        return value.item()
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a record holds numbers, text and lists of them, got {value!r}")


def _npz(arrays: Mapping[str, Any], *, compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    return buffer.getvalue()

"""From a trial's record to a bundle; and the training of one configuration into one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from analysis.errors import TailtuneError, UsageError
from analysis.intervals import interval_of
from analysis.metrics import SCORES, Metrics
from analysis.ranking import rank
from analysis.records import RecordFolder
from tailtune import __version__
from tailtune.study import Study
from trainable.bundle import PREPROCESSING, WEIGHTS, Preprocessing, load_model, timm_layout
from trainable.checkpoint import epoch_of_weights
from trainable.config import TrialConfig
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.data_rules import check_data
from trainable.history import EpochReport
from trainable.loop import fit

FORMAT = 1
RECORD = "record"
"""Folder inside `tailtune train --out` that holds the record, from which an interrupted run goes on."""
ORIGIN = "origin.json"
"""File in that folder that says which images it was begun with."""


def export_study(study: Study, trial: int | None, out: Path) -> dict[str, Any]:
    """Write a trial of `study` as a bundle into `out`.

    Args:
        study: With at least one trial that kept its weights.
        trial: Its number; None takes the best COMPLETE one.
        out: Folder to make; must not exist, or be empty.

    Returns:
        What `bundle.json` says.

    Raises:
        UsageError: If there is no such trial, or `out` is in use.
        TailtuneError: If no trial is complete, or its weights have gone.
    """
    records = {record.number: record for record in study.records()}
    if trial is None:
        ranking = rank(list(records.values()), study=study.name)
        complete = [row.number for row in ranking.rows if row.state == "COMPLETE" and row.score is not None]
        if not complete:
            raise TailtuneError(
                f"study '{study.name}' has no COMPLETE trial to export",
                f"run `tailtune resume {study.name}`, or name another with --trial",
            )
        trial = complete[0]
    if trial not in records:
        raise UsageError(
            f"no trial {trial} in study '{study.name}'", f"`tailtune rank {study.name}` lists them"
        )
    origin = {
        "study": study.name,
        "trial": trial,
        "state": records[trial].state.value,
        "trials_searched": len(records),
        "data": study.spec.data.source,
        "data_fingerprint": study.spec.data.fingerprint,
    }
    return write_bundle(records[trial].folder, study.config(trial), out, origin)


def train_config(
    config: TrialConfig,
    data: str,
    out: Path,
    *,
    cache_dir: Path,
    on_epoch: Callable[[EpochReport], None] | None = None,
) -> dict[str, Any]:
    """Train `config` on `data` into a bundle in `out`; the same call again goes on where it was.

    Args:
        config: The trial; its `data` part says how images are decoded and split.
        data: Folder, manifest or built-in name.
        out: Folder to make; must not exist, be empty, or hold the same run.
        cache_dir: Where decoded images are kept.
        on_epoch: Is given each epoch's report.

    Returns:
        What `bundle.json` says.

    Raises:
        UsageError: If `out` holds something else.
        TailtuneError: If the data cannot be read, or the trial diverges.
    """
    record = RecordFolder(out / RECORD)
    text = config.to_yaml()
    if record.config_yaml != text:
        _refuse_if_used(out)
    dataset = load_dataset(data, data=config.data, cache_dir=cache_dir)
    origin = {"study": None, "trial": None, "data": data, "data_fingerprint": dataset.fingerprint}
    begun = _json(origin | {"data": None})  # the same images may be named in another way
    if record.config_yaml is not None and _read(record.path / ORIGIN) != begun:
        _refuse_if_used(out)
    split = make_split(
        dataset,
        seed=config.data.split_seed,
        validation_fraction=config.data.validation_fraction,
        test_fraction=config.data.test_fraction,
    )
    check_data(config, dataset, split)
    record.write_bytes(ORIGIN, begun)
    record.write_config(text)
    for report in fit(config, dataset, split, record=record, cache_dir=cache_dir):
        if on_epoch is not None:
            on_epoch(report)
        if report.diverged is not None:
            raise TailtuneError(
                f"the trial diverged in epoch {report.epoch}: {report.diverged}", "lower optimizer.lr"
            )
    return write_bundle(record, config, out, origin)


def write_bundle(
    record: RecordFolder, config: TrialConfig, out: Path, origin: dict[str, Any]
) -> dict[str, Any]:
    """Write the record's chosen epoch as a bundle; `out` appears whole or not at all.

    Files: config.yaml, model.safetensors, preprocessing.json, class_names.json, metrics.json,
    bundle.json (format, versions, origin, checksums, and the strength of the post-hoc correction that the
    last layer carries), and config.json in timm's layout where timm
    builds the very same network.

    Raises:
        TailtuneError: If the record's predictions or weights are gone, or `out` cannot be written.
    """
    predictions = record.predictions()
    if predictions is None or not (record.path / "best.safetensors").exists():
        raise TailtuneError(
            f"trial in {record.path} keeps no weights: only the best trials' are kept",
            "name a better trial with --trial, or train its config.yaml again by `tailtune train`",
        )
    epoch = epoch_of_weights(record.path / "best.safetensors")
    if epoch not in (None, predictions.epoch):
        raise TailtuneError(
            f"the weights in {record.path} are of epoch {epoch}, its predictions of epoch {predictions.epoch}: "
            "an unfinished trial's weights are written now and then",
            "let the trial end: wait, or resume its study",
        )
    config = _as_it_ran(config, record)
    inside = record.path.parent == out
    if not inside:
        _refuse_if_used(out)
    preprocessing = Preprocessing.read(record.path)
    model = load_model(config, preprocessing, record.path / "best.safetensors")
    layout = timm_layout(config, preprocessing, model)
    files = {
        "config.yaml": config.to_yaml().encode(),
        PREPROCESSING: preprocessing.to_json(),
        "class_names.json": _json(preprocessing.class_names),
        "metrics.json": _json(_metrics(record)),
        WEIGHTS: (record.path / "best.safetensors").read_bytes(),
    }
    if layout is not None:
        files["config.json"] = _json(layout)
    manifest = {
        "format": FORMAT,
        "tailtune": __version__,
        "origin": origin,
        "timm_local_dir": layout is not None,
        "posthoc_tau": None if record.summary is None else record.summary.auto.get("posthoc_tau"),
        "sha256": {name: sha256(content).hexdigest() for name, content in files.items()},
    }
    files["bundle.json"] = _json(manifest)
    _write_folder(files, out, inside=inside)
    return {"out": str(out), **manifest, "metrics": _metrics(record)}


def _as_it_ran(config: TrialConfig, record: RecordFolder) -> TrialConfig:
    """Return `config` with what `auto` chose, so that training it again is the same trial."""
    summary = record.summary
    keys = ("precision", "threads", "accumulate")
    chosen = {} if summary is None else {key: summary.auto.get(key) for key in keys}
    training = config.training.model_dump() | {key: value for key, value in chosen.items() if value is not None}
    return TrialConfig.model_validate(config.model_dump() | {"training": training})


def _metrics(record: RecordFolder) -> dict[str, Any]:
    """Return every score on validation, each of the whole split with its interval."""
    predictions, summary = record.predictions(), record.summary
    assert predictions is not None
    counts = None if summary is None else summary.train_class_counts
    metrics = Metrics.from_confusion(predictions.confusion(), counts)
    scores: dict[str, Any] = {
        name: _scored(predictions.targets, predictions.classes, predictions.num_classes, name)
        for name in SCORES
    }
    rest = {key: value for key, value in metrics.to_dict().items() if key not in scores}
    return {
        "split": "validation, on which epoch and trial were chosen: expect less on new images",
        "epoch": predictions.epoch,
        "num_images": len(predictions.targets),
        **scores,
        **rest,
    }


def _scored(targets: Any, classes: Any, num_classes: int, name: str) -> dict[str, Any]:
    found = interval_of(targets, classes, num_classes, metric=name)
    return {"value": found.value, "interval": [found.low, found.high], "confidence": found.confidence}


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _refuse_if_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out must be a new or empty folder, got {out}", "choose another, or remove it")


def _write_folder(files: dict[str, bytes], out: Path, *, inside: bool) -> None:
    """Write `files` into a folder beside `out` and rename it; into `out` itself where that is in use by us."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        try:
            for name, content in files.items():
                (draft / name).write_bytes(content)
            if inside:
                for name in files:
                    os.replace(draft / name, out / name)
            else:
                draft.chmod(0o755)
                os.replace(draft, out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise TailtuneError(
            f"cannot write the bundle {out}: {error.strerror}", "choose an --out that can be written"
        ) from None


def _json(value: Any) -> bytes:
    plain = (
        dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    )
    return json.dumps(plain, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"

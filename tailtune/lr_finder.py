"""`lr-find`: the range test as files, and as the centre of a search range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml

from analysis.errors import TailtuneError, UsageError
from trainable.config import TrialConfig
from trainable.data.load import load_dataset
from trainable.data.split import make_split
from trainable.lr_find import LrCurve, find_lr

SPREAD = 3.0
"""The range that is suggested reaches this factor below and above the rate of the steepest slope."""


def run_lr_find(
    config: TrialConfig,
    data: str,
    *,
    cache_dir: Path,
    low: float,
    high: float,
    steps: int,
    out: Path | None = None,
    space_out: Path | None = None,
    space: str = "default",
) -> dict[str, Any]:
    """Make a range test of `config` on `data`; write its curve and a narrowed space where asked to.

    Args:
        config: The trial.
        data: As `search` takes it.
        cache_dir: Of decoded images.
        low: First rate.
        high: Last rate.
        steps: Optimizer steps.
        out: Folder for `lr_find.json` and `lr_find.html`; None writes neither.
        space_out: File for a space whose learning rates lie about the suggestion.
        space: The space that it narrows.

    Returns:
        `{"suggestion", "steepest", "minimum", "tenth_of_minimum", "range", "space_yaml", "curve", "files"}`.
    """
    if space_out is not None and space_out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--space-out must be a YAML file, got {space_out}", "write for example narrow.yaml")
    dataset = load_dataset(data, data=config.data, cache_dir=cache_dir)
    split = make_split(
        dataset,
        seed=config.data.split_seed,
        validation_fraction=config.data.validation_fraction,
        test_fraction=config.data.test_fraction,
    )
    curve = find_lr(config, dataset, split, low=low, high=high, steps=steps)
    text = narrowed_space(config.optimizer.name, curve.steepest, space)
    found: dict[str, Any] = {
        "optimizer": config.optimizer.name,
        "suggestion": curve.steepest,
        "steepest": curve.steepest,
        "minimum": curve.minimum,
        "tenth_of_minimum": curve.tenth_of_minimum,
        "range": [curve.steepest / SPREAD, curve.steepest * SPREAD],
        "space_yaml": text,
        "curve": {"lr": curve.lrs.tolist(), "loss": curve.losses.tolist(), "smoothed": curve.smoothed.tolist()},
    }
    files = [] if out is None else [out / "lr_find.json", out / "lr_find.html"]
    found["files"] = [str(path) for path in files] + ([] if space_out is None else [str(space_out)])
    if out is not None:
        _write(files[0], json.dumps(found, indent=1) + "\n")
        _write(files[1], figure(curve).to_html(include_plotlyjs="inline"))
    if space_out is not None:
        _write(space_out, text)
    return found


def narrowed_space(optimizer: str, lr: float, space: str) -> str:
    """Return YAML that narrows `space` to `optimizer` with rates about `lr`."""
    ends = {"low": _short(lr / SPREAD), "high": _short(lr * SPREAD), "log": True}
    narrowed = {"extends": space, "optimizer": {"choices": [optimizer], optimizer: {"lr": ends}}}
    return yaml.safe_dump(narrowed, sort_keys=False)


def figure(curve: LrCurve) -> go.Figure:
    """Return the curve with its three suggestions."""
    drawn = go.Figure()
    drawn.add_scatter(x=curve.lrs, y=curve.losses, name="loss", line={"color": "#c8c8c8"})
    drawn.add_scatter(x=curve.lrs, y=curve.smoothed, name="smoothed", line={"color": "#1f5fa8"})
    marks = {"steepest slope": curve.steepest, "minimum": curve.minimum, "minimum / 10": curve.tenth_of_minimum}
    for name, lr in marks.items():
        drawn.add_vline(x=lr, line_dash="dot", annotation_text=f"{name}: {lr:.2g}", annotation_textangle=-90)
    drawn.update_layout(title="Learning-rate range test", template="plotly_white")
    drawn.update_xaxes(title="learning rate", type="log")
    drawn.update_yaxes(title="training loss")
    return drawn


def _short(value: float) -> float:
    return float(f"{value:.3g}")


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TailtuneError(f"cannot write {path}: {error.strerror}", "choose another place") from None

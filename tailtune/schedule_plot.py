"""A schedule drawn before it is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from analysis.errors import TailtuneError
from trainable.config import TrialConfig
from trainable.schedules import lr_curve

STEPS_PER_EPOCH = 100
"""Nominal: a schedule is a function of the share of an epoch, whatever the number of images."""


def schedule_figure(config: TrialConfig) -> go.Figure:
    """Return the learning rate of `config` against the epoch, warm-up included."""
    rates = lr_curve(config.schedule, config.epochs, STEPS_PER_EPOCH, config.optimizer.lr)
    epochs = np.arange(len(rates)) / STEPS_PER_EPOCH
    drawn = go.Figure(go.Scatter(x=epochs, y=rates, name=config.schedule.name))
    title = f"{config.name or 'schedule'}: {config.schedule.name}, {config.optimizer.name}"
    drawn.update_layout(title=title, template="plotly_white")
    drawn.update_xaxes(title="epoch")
    drawn.update_yaxes(title="learning rate")
    return drawn


def plot_schedule(config: TrialConfig, path: Path) -> None:
    """Write the schedule of `config` as an HTML page that needs no network.

    Raises:
        TailtuneError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schedule_figure(config).to_html(include_plotlyjs="inline"), encoding="utf-8")
    except OSError as error:
        raise TailtuneError(f"cannot write {path}: {error.strerror}", "choose another place") from None

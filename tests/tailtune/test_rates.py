"""`lr-find` and `recipes --plot-schedule`: files, documents, and a space that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from search_spaces.space import load_space
from tailtune.cli import main
from tailtune.lr_finder import narrowed_space
from tailtune.schedule_plot import STEPS_PER_EPOCH, schedule_figure
from trainable.component import Range
from trainable.config import TrialConfig


def test_lr_find_writes_its_curve_and_a_space_about_the_suggestion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("backbone: {name: test_byobnet}\noptimizer: {name: sgd}\ntraining: {precision: fp32}\n")
    out, space = tmp_path / "out", tmp_path / "narrow.yaml"
    words = ["lr-find", str(config), "digits-lt", "--steps", "12", "--out", str(out), "--space-out", str(space)]
    assert main([*words, "--home", str(tmp_path / "home"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suggestion"] == found["steepest"]
    assert found["tenth_of_minimum"] == pytest.approx(found["minimum"] / 10)
    assert json.loads((out / "lr_find.json").read_text())["curve"] == found["curve"]
    assert "steepest slope" in (out / "lr_find.html").read_text(encoding="utf-8")
    narrowed = load_space(str(space))
    lr = narrowed.families["optimizer"]["sgd"]["lr"]
    assert isinstance(lr, Range)
    assert lr.low < found["steepest"] < lr.high


def test_the_narrowed_space_keeps_one_optimizer_and_a_logarithmic_range() -> None:
    text = narrowed_space("adamw", 0.01, "tiny")
    assert yaml.safe_load(text) == {
        "extends": "tiny",
        "optimizer": {"choices": ["adamw"], "adamw": {"lr": {"low": 0.00333, "high": 0.03, "log": True}}},
    }


def test_a_recipes_schedule_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "schedule.html"
    assert main(["recipes", "v3", "--plot-schedule", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule"] == str(path)
    assert "learning rate" in path.read_text(encoding="utf-8")
    assert main(["recipes", "--plot-schedule", str(path)]) == 2


def test_the_drawing_holds_every_step_and_reaches_the_peak() -> None:
    config = TrialConfig.model_validate(
        {
            "epochs": 4,
            "optimizer": {"name": "sgd", "lr": 0.2},
            "schedule": {"name": "cosine", "warmup_epochs": 1},
        }
    )
    drawn = schedule_figure(config).data[0]
    assert len(drawn.y) == 4 * STEPS_PER_EPOCH
    assert max(drawn.y) == pytest.approx(0.2)
    assert drawn.y[0] < 0.01

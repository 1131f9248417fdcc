"""From a request to a study: starting points whose weights are not to be had."""

from pathlib import Path

import optuna
import pytest

from analysis.errors import TailtuneError, UsageError
from search_spaces.space import load_space
from tailtune.launch import prepare
from tailtune.planning import Request
from tailtune.progress import Watcher
from trainable.config import TrialConfig


def request(home: Path, **options: object) -> Request:
    return Request(
        data="digits-lt", space="tiny", trials=4, epochs=2, image_size=(32, 32), home=home, **options
    )


def test_recipes_are_starting_points_without_their_weights(tmp_path: Path) -> None:
    found = prepare(request(tmp_path, start_from=("v3", "v4"), widen=True, pretrained=False), Watcher())
    study = optuna.create_study()
    drawn: list[TrialConfig] = []
    for _, parameters in found.points:
        study.enqueue_trial(parameters)
        drawn.append(found.space.suggest(study.ask(), found.spec.base))
    assert [config.backbone.name for config in drawn] == ["tf_efficientnetv2_b2.in1k", "convnext_base.fb_in22k"]
    assert not any(config.backbone.pretrained for config in drawn)
    assert [config.loss.name for config in drawn] == ["focal", "cross_entropy"]


def test_without_their_weights_they_lie_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"v3 does not: .*backbone.pretrained = True.*\(--widen\)"):
        prepare(request(tmp_path, start_from=("v3",)), Watcher())
    with pytest.raises(TailtuneError, match=r"or start at random \(--no-pretrained\)"):
        prepare(request(tmp_path, start_from=("v3",), widen=True), Watcher())


def test_a_space_forgets_its_weights_when_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: tiny\nbackbone: {choices: [test_resnet], pretrained: true}\n", encoding="utf-8")
    space = load_space(str(file)).at_random()
    assert not space.suggest(optuna.create_study().ask(), TrialConfig()).backbone.pretrained

"""Techniques in a space: asked for, searched, and refused together with what they cannot stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import UsageError
from search_spaces.space import SearchSpace
from search_spaces.techniques import TECHNIQUES, check_teachers
from tests.search_spaces.test_suggestions import suggested
from trainable.techniques import Stages

SEARCHED = """
backbone: {choices: [test_efficientnet, test_resnet], drop_path_rate: 0.0}
progressive_resizing: {choices: [none, linear]}
deep_supervision: {choices: [none, stages], stages: {weight: {low: 0.2, high: 0.4}}}
contrastive: {choices: [none, supervised]}
classifier_retraining: {choices: [none, crt]}
augment: {choices: [augmix]}
"""


def test_every_technique_is_drawn_with_its_ranges() -> None:
    space = SearchSpace.from_yaml(SEARCHED)
    drawn = suggested(space, 60)
    for family in (*TECHNIQUES[:2], "contrastive", "classifier_retraining"):
        assert {getattr(config, family).name == "none" for config, _ in drawn} == {True, False}, family
    weights = [
        config.deep_supervision.weight for config, _ in drawn if isinstance(config.deep_supervision, Stages)
    ]
    assert all(0.2 <= weight <= 0.4 for weight in weights)
    assert len(set(weights)) > 10
    assert {op.consistency for config, _ in drawn for op in config.augment} == {0.0, 12.0}
    for config, _ in drawn[:10]:
        assert space.widened(config).fingerprint() == space.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("frozen: features\nmixing: mixup", "train only a head, got mixing"),
        ("frozen: features", "trained weights, got a random resnet18"),
        (
            "frozen: features\nbackbone: {choices: [resnet18], pretrained: true}\naugment: [flip]",
            "flip with 0 views",
        ),
        (
            "deep_supervision: {choices: [none, stages], stages: {auxiliary: {choices: [1, 7]}}}",
            "4 in resnet18, got 7",
        ),
        ("distillation: teacher", "a teacher must be named"),
        ("posthoc: tau_norm\nbackbone: torchvision:squeezenet1_1", "posthoc needs a network with one linear"),
        ("contrastive: {choices: [none, supervisde]}", "did you mean 'supervised'"),
    ],
)
def test_what_cannot_work_is_refused_when_the_space_is_read(change: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        SearchSpace.from_yaml(change)
    assert message in str(caught.value)


def test_a_teacher_that_is_not_there_is_refused_before_the_search(tmp_path: Path) -> None:
    space = SearchSpace.from_yaml(f"distillation: {{choices: [teacher], teacher: {{folder: {tmp_path}}}}}")
    with pytest.raises(UsageError, match="must be a bundle"):
        check_teachers(space, ("a", "b"))
    check_teachers(SearchSpace.from_yaml("loss: focal"), ("a", "b"))

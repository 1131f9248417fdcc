"""C2 to C10, A3 and A4: every choice that the sources name is there, by its row's id.

Each stands in its registry and so on the page of techniques and under the contract tests, can be drawn by a
named space, and trains (`tests/trainable/test_components_train.py` and `tests/trainable/techniques`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from search_spaces.declared import DeclaredSpace
from search_spaces.families import FAMILIES
from search_spaces.space import SearchSpace, load_space
from tailtune.techniques_page import IDS, TECHNIQUES, page
from trainable.augment import AUGMENT, RareBoost
from trainable.config import DataConfig, TrainingConfig
from trainable.mixing import MIXING
from trainable.schedules import SCHEDULES

ROWS: dict[str, dict[str, tuple[str, ...]]] = {
    "C2": {
        "loss": (
            "cross_entropy", "label_smoothing", "focal", "class_balanced", "ohem", "balanced_softmax",
            "logit_adjustment", "ldam",
        ),
    },
    "C3": {"class_weights": ("none", "inverse_frequency", "inverse_sqrt", "effective_number")},
    "C4": {
        "sampler": (
            "natural", "balanced", "square_root", "strength", "dynamic", "difficulty", "online_class_balanced",
        ),
    },
    "C5": {
        "augment": (
            "crop", "flip", "rotation", "scale", "colour_jitter", "erasing", "gridmask", "auto_augment",
            "rand_augment", "trivial_augment", "augmix",
        ),
        "mixing": ("mixup", "cutmix", "mixup_or_cutmix"),
    },
    "C6": {
        "optimizer": ("sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "ranger", "sam", "sam_adamw"),
    },
    "C7": {"schedule": ("one_cycle", "cosine", "plateau", "step", "constant")},
    "C8": {"averaging": ("none", "ema", "swa")},
    "C9": {
        "deep_supervision": ("stages",),
        "progressive_resizing": ("linear",),
        "distillation": ("teacher",),
        "contrastive": ("supervised",),
        "classifier_retraining": ("crt",),
        "frozen": ("features",),
    },
    "C10": {"tta": ("flips", "flips_scales"), "posthoc": ("logit_adjustment", "tau_norm")},
}  # fmt: skip
CHOICES = [
    pytest.param(row, family, name, id=f"{row}-{family}-{name}")
    for row, families in ROWS.items()
    for family, names in families.items()
    for name in names
]
SURFACE = json.loads((Path(__file__).parent / "tailtune" / "cli_surface.json").read_text())


@pytest.mark.parametrize(("row", "family", "name"), CHOICES)
def test_every_choice_is_enrolled_documented_and_searchable(row: str, family: str, name: str) -> None:
    registry = AUGMENT if family == "augment" else FAMILIES[family]
    assert name in registry
    assert IDS.get(family, TECHNIQUES) == row
    assert f"### `{name}`" in page().split(f"## {row} `{family}`")[1].split("\n## ")[0]
    full = load_space("full")
    assert isinstance(full, DeclaredSpace)
    if row == "C9" or family == "posthoc":  # off in `full`: not every network can; a space takes it by its key
        assert family in FAMILIES
    else:
        assert name in (full.always | full.optional if family == "augment" else full.families[family])


@pytest.mark.parametrize("key", ["precision", "accumulate", "clip_norm", "early_stopping"])
def test_c9_settings_of_the_training_are_fields_that_a_space_can_search(key: str) -> None:
    value = {"precision": "bf16", "accumulate": 2, "clip_norm": 1.0, "early_stopping": 5}[key]
    space = SearchSpace.from_yaml(f"training: {{{key}: {value}}}")
    assert isinstance(space, DeclaredSpace)
    assert key in TrainingConfig.model_fields
    assert key in space.training


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_c7_warm_up_goes_before_any_schedule(name: str) -> None:
    assert "warmup_epochs" in SCHEDULES[name].model_fields


@pytest.mark.parametrize("name", ["mixup", "cutmix", "mixup_or_cutmix"])
def test_c5_mixing_is_drawn_for_a_batch_or_for_each_image(name: str) -> None:
    assert set(MIXING[name].dimensions()["per_sample"].values) == {False, True}


@pytest.mark.parametrize("name", [name for name in AUGMENT.names() if name != "flip"])
def test_c5_every_augmentation_but_the_mirror_can_be_stronger_for_rare_classes(name: str) -> None:
    assert issubclass(AUGMENT[name], RareBoost)


@pytest.mark.parametrize(
    ("row", "command", "option"),
    [
        ("A3", "search", "--folds"),
        ("A4", "lr-find", "--out"),
        ("A4", "lr-find", "--space-out"),
        ("A4", "recipes", "--plot-schedule"),
        ("C5", "data", "--show-augment"),
    ],
)
def test_rows_that_are_commands_have_their_option(row: str, command: str, option: str) -> None:
    assert option in SURFACE[command]
    assert "folds" in DataConfig.model_fields

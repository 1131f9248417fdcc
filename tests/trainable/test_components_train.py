"""Every component trains for two steps through the whole loop; so does every pair of those that interact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tailtune.techniques_page import IDS
from tests.trainable.test_loop import small
from trainable.augment import AUGMENT
from trainable.averaging import AVERAGING
from trainable.class_weights import CLASS_WEIGHTS
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit
from trainable.losses import LOSSES
from trainable.mixing import MIXING
from trainable.optimizers import OPTIMIZERS
from trainable.posthoc import POSTHOC
from trainable.samplers import SAMPLERS
from trainable.schedules import SCHEDULES
from trainable.tta import TTA

FAMILIES = {
    "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
    "sampler": SAMPLERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "averaging": AVERAGING,
    "mixing": MIXING,
    "tta": TTA,
    "posthoc": POSTHOC,
}
SINGLE = [
    pytest.param({family: name}, id=f"{IDS[family]}-{family}-{name}")
    for family, known in FAMILIES.items()
    for name in known.names()
]
SINGLE += [
    pytest.param({"augment": [{"name": name}], "data": {"flips": "dihedral"}}, id=f"C5-augment-{name}")
    for name in AUGMENT.names()
]
SINGLE += [
    pytest.param(changes, id=f"C9-{next(iter(changes))}")
    for changes in (
        {"progressive_resizing": "linear"},
        {"deep_supervision": {"name": "stages", "auxiliary": 2}},
        {"contrastive": "supervised"},
        {"classifier_retraining": {"name": "crt", "share": 0.5}},
    )
]
"""Distillation and frozen features need a finished trial or trained weights: `tests/trainable/techniques`."""

INTERACTING: dict[str, list[dict[str, Any]]] = {
    "optimizer": [{"optimizer": {"name": "sam"}}, {"optimizer": {"name": "ranger"}}],
    "schedule": [{"schedule": {"name": "plateau"}}, {"schedule": {"name": "one_cycle", "warmup_epochs": 1.0}}],
    "averaging": [{"averaging": {"name": "swa"}}, {"averaging": {"name": "ema"}}],
    "mixing": [{"mixing": "mixup_or_cutmix"}],
    "loss": [{"loss": "ldam"}, {"loss": "focal"}],
    "training": [
        {"training": {"precision": "fp16", "accumulate": 2, "clip_norm": 1.0}},
        {"training": {"precision": "bf16", "accumulate": 3}},
    ],
}
PAIRS = [
    {**first, **second}
    for one, two in itertools.combinations(INTERACTING.values(), 2)
    for first, second in itertools.product(one, two)
]


def check(changes: dict[str, Any], digits: ImageDataset, split: Split) -> None:
    few = Split(split.train[::3], split.val, split.test)  # 32 images: two steps an epoch
    reports = list(fit(small(epochs=2, **changes), digits, few, device="cpu"))
    assert [report.diverged for report in reports] == [None, None]
    assert all(report.row is not None and np.isfinite(report.row.train_loss) for report in reports)


@pytest.mark.parametrize("changes", SINGLE)
def test_every_component_trains(changes: dict[str, Any], digits: ImageDataset, split: Split) -> None:
    check(changes, digits, split)


@pytest.mark.parametrize("changes", PAIRS, ids=str)
def test_every_interacting_pair_trains(changes: dict[str, Any], digits: ImageDataset, split: Split) -> None:
    check(changes, digits, split)

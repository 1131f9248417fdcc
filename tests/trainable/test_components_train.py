"""Every component trains for two steps through the whole loop; so does every pair of those that interact."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.trainable.test_loop import small
from trainable.augment import AUGMENT
from trainable.averaging import AVERAGING
from trainable.class_weights import CLASS_WEIGHTS
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit
from trainable.losses import LOSSES
from trainable.mixing import MIXING
from trainable.optimizers import OPTIMIZERS
from trainable.samplers import SAMPLERS
from trainable.schedules import SCHEDULES

FAMILIES = {
    "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
    "sampler": SAMPLERS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "averaging": AVERAGING,
    "mixing": MIXING,
}
SINGLE: list[dict[str, Any]] = [{family: name} for family, known in FAMILIES.items() for name in known.names()]
SINGLE += [{"augment": [{"name": name}], "data": {"flips": "dihedral"}} for name in AUGMENT.names()]

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


@pytest.mark.parametrize("changes", SINGLE, ids=str)
def test_every_component_trains(changes: dict[str, Any], digits: ImageDataset, split: Split) -> None:
    check(changes, digits, split)


@pytest.mark.parametrize("changes", PAIRS, ids=str)
def test_every_interacting_pair_trains(changes: dict[str, Any], digits: ImageDataset, split: Split) -> None:
    check(changes, digits, split)

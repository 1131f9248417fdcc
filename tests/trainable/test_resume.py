"""A resumed trial equals an uninterrupted one, bit for bit, for every component that has a state."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from analysis.errors import TailtuneError
from analysis.records import EpochRow, RecordFolder
from tests.trainable.test_loop import small
from trainable.averaging import AVERAGING
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.loop import fit
from trainable.optimizers import OPTIMIZERS
from trainable.samplers import SAMPLERS
from trainable.schedules import SCHEDULES

LOSSES_WITH_EPOCHS = ["ldam", "logit_adjustment"]


def cases() -> list[dict[str, Any]]:
    """One small trial for each optimizer, schedule, average and sampler, and a few that meet."""
    single = [
        {family: {"name": name}}
        for family, registry in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("averaging", AVERAGING),
            ("sampler", SAMPLERS),
        )
        for name in registry.names()
    ]
    busy = {
        "optimizer": {"name": "sam"},
        "schedule": {"name": "plateau", "warmup_epochs": 1.0},
        "averaging": {"name": "ema"},
        "sampler": {"name": "dynamic"},
        "mixing": {"name": "mixup_or_cutmix"},
        "augment": [{"name": "crop"}, {"name": "rotation"}, {"name": "brightness"}, {"name": "erasing"}],
        "backbone": {"name": "test_efficientnet", "drop_rate": 0.2, "drop_path_rate": 0.1},
        "training": {"accumulate": 2, "clip_norm": 1.0, "precision": "bf16"},
    }
    techniques: list[dict[str, Any]] = [
        {"progressive_resizing": {"name": "linear"}, "deep_supervision": {"name": "stages", "auxiliary": 2}},
        {"contrastive": {"name": "supervised"}, "classifier_retraining": {"name": "crt", "share": 0.25}},
        {
            "classifier_retraining": {"name": "crt", "share": 0.6},
            "averaging": {"name": "ema"},
            "training": {"clip_norm": 0.1},
        },
        {"augment": [{"name": "augmix", "consistency": 12.0}], "mixing": {"name": "mixup"}},
    ]
    return [*single, busy, *techniques]


def label(case: dict[str, Any]) -> str:
    family = next(iter(case))
    return f"{family}-{case[family]['name']}" if len(case) == 1 else "+".join(case)


@pytest.mark.parametrize("case", cases(), ids=label)
def test_resumed_equals_uninterrupted(
    case: dict[str, Any], digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(epochs=4, **case)
    whole, broken = RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "broken")
    reports = list(fit(config, digits, split, record=whole, checkpoint_seconds=0, device="cpu"))
    for _ in itertools.islice(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"), 2):
        pass
    resumed = list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert [report.epoch for report in resumed] == [2, 3, 4], "the newest known epoch is told once more"
    assert resumed[-1].curve == reports[-1].curve
    assert [untimed(row) for row in broken.epochs()] == [untimed(row) for row in whole.epochs()]
    for name in ("best.safetensors",):
        one, two = load_file(whole.path / name), load_file(broken.path / name)
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key], err_msg=key)
    first, second = whole.predictions(), broken.predictions()
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.epoch == second.epoch


def untimed(row: EpochRow) -> EpochRow:
    return dataclasses.replace(row, seconds=0.0)


def test_fp16_scaler_is_resumed(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    config = small(epochs=3, training={"precision": "fp16"}, backbone="test_byobnet")
    whole, broken = RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "broken")
    list(fit(config, digits, split, record=whole, checkpoint_seconds=0, device="cpu"))
    next(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert [untimed(row) for row in broken.epochs()] == [untimed(row) for row in whole.epochs()]


def test_a_finished_trial_is_told_again_not_trained_again(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    record, config = RecordFolder(tmp_path), small()
    reports = list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    again = list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert [(r.epoch, r.final, r.best_macro_f1) for r in again] == [(3, True, reports[-1].best_macro_f1)]
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_files_lost_after_the_checkpoint_come_back(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    """A kill between the checkpoint and what is written after it loses nothing."""
    record, config = RecordFolder(tmp_path), small()
    for _ in itertools.islice(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"), 2):
        pass
    record.write_epochs(record.epochs()[:1])
    (tmp_path / "summary.json").unlink()
    list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert [row.epoch for row in record.epochs()] == [1, 2, 3]
    assert record.summary is not None
    assert record.summary.finished


@pytest.mark.usefixtures("products_everywhere")
def test_a_bf16_trial_whose_convolutions_are_products_resumes_exactly(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    """Its last maps have one pixel, where torch's own bf16 gradient is never the same twice."""
    config = small(epochs=3, backbone="resnet10t", training={"precision": "bf16"})
    whole, broken = RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "broken")
    reports = list(fit(config, digits, split, record=whole, checkpoint_seconds=0, device="cpu"))
    next(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    again = list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert [report.curve for report in again] == [report.curve for report in reports]
    weights, others = (load_file(record.path / "best.safetensors") for record in (whole, broken))
    assert all(np.array_equal(weights[key], others[key]) for key in weights)


def test_what_auto_chose_is_reused(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    record = RecordFolder(tmp_path)
    begun: TrialConfig = small(training={"precision": "bf16"})
    next(fit(begun, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    config: TrialConfig = small(training={"precision": "auto"})
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save(saved | {"config": config.model_dump(mode="json")}, tmp_path / "checkpoint.pt")
    list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    assert record.summary is not None
    assert record.summary.auto["precision"] == "bf16"


def test_a_trial_goes_on_with_as_many_threads_as_it_began_with(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    """With another number sums are rounded otherwise: a resumed trial would be another one."""
    record, config = RecordFolder(tmp_path), small()
    try:
        torch.set_num_threads(2)
        next(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
        torch.set_num_threads(1)  # as a search resumed with other slots would
        list(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
        assert torch.get_num_threads() == 2
        assert record.summary is not None
        assert record.summary.auto["threads"] == 2
    finally:
        torch.set_num_threads(1)


def test_another_trials_checkpoint_is_refused(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    record, config = RecordFolder(tmp_path), small()
    next(fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    for other in (config.model_copy(update={"seed": config.seed + 1}), config.model_copy(update={"epochs": 9})):
        with pytest.raises(TailtuneError, match="of another configuration or seed"):
            next(fit(other, digits, split, record=record, checkpoint_seconds=0, device="cpu"))
    renamed = config.model_copy(update={"name": "the same trial"})
    assert next(fit(renamed, digits, split, record=record, checkpoint_seconds=0, device="cpu")).epoch == 1


def test_a_student_is_resumed_with_its_teacher(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    teacher = RecordFolder(tmp_path / "teacher")
    wise = small(epochs=2, seed=7)
    list(fit(wise, digits, split, record=teacher, checkpoint_seconds=0, device="cpu"))
    teacher.write_config(wise.to_yaml())
    distillation = {"name": "teacher", "folder": str(teacher.path), "weight": 0.7}
    config = small(epochs=4, distillation=distillation, mixing={"name": "mixup"})
    whole, broken = RecordFolder(tmp_path / "whole"), RecordFolder(tmp_path / "broken")
    list(fit(config, digits, split, record=whole, checkpoint_seconds=0, device="cpu"))
    for _ in itertools.islice(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"), 2):
        pass
    list(fit(config, digits, split, record=broken, checkpoint_seconds=0, device="cpu"))
    assert [untimed(row) for row in broken.epochs()] == [untimed(row) for row in whole.epochs()]
    first, second = whole.predictions(), broken.predictions()
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.logits, second.logits)

"""Every technique trains, alone and with what it may meet; what it adds is never exported."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from analysis.errors import UsageError
from analysis.records import RecordFolder
from tests.trainable.test_loop import small, train
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.state import TrialState

TECHNIQUES: dict[str, dict[str, Any]] = {
    "resizing": {"progressive_resizing": {"name": "linear", "start": 0.5, "full_at": 0.5}},
    "supervision": {"deep_supervision": {"name": "stages", "auxiliary": 2}},
    "contrastive": {"contrastive": {"name": "supervised"}},
    "consistency": {"augment": [{"name": "augmix", "consistency": 12.0}, {"name": "flip"}]},
    "retraining": {"classifier_retraining": {"name": "crt", "share": 0.5}},
}
OTHERS: dict[str, dict[str, Any]] = {
    "sam": {"optimizer": {"name": "sam", "lr": 0.05}},
    "mixup": {"mixing": {"name": "mixup"}},
    "cutmix": {"mixing": {"name": "cutmix", "per_sample": True}},
    "accumulate": {"training": {"accumulate": 3, "clip_norm": 1.0}},
    "ema": {"averaging": {"name": "ema"}},
    "weights": {"class_weights": {"name": "inverse_sqrt"}},
    "bf16": {"training": {"precision": "bf16"}},
    "ldam": {"loss": {"name": "ldam"}},
}
EVERYTHING = TECHNIQUES | OTHERS
PAIRS = [
    (one, other)
    for one, other in itertools.combinations(EVERYTHING, 2)
    if one in TECHNIQUES and not EVERYTHING[one].keys() & EVERYTHING[other].keys()
]


def two_steps(config: TrialConfig, digits: ImageDataset, split: Split) -> TrialState:
    """Take two steps in the first epoch and two in the last."""
    trial = TrialState(config, digits, split, torch.device("cpu"))
    for epoch in (0, config.epochs - 1):
        positions = trial.begin_epoch(epoch)
        for number, batch in enumerate(itertools.islice(trial.batches.train(positions, epoch), 2)):
            trial.set_lr(epoch, number)
            result = trial.stepper(batch.mixed)
            assert torch.isfinite(result.loss)
            assert result.per_image.shape == batch.targets.shape
            trial.averager.after_step()
    return trial


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_pairs_train_together(one: str, other: str, digits: ImageDataset, split: Split) -> None:
    config = small(epochs=2, **EVERYTHING[one], **EVERYTHING[other])
    trial = two_steps(config, digits, split)
    assert all(torch.isfinite(parameter).all() for parameter in trial.model.parameters())


@pytest.mark.parametrize("name", ["supervision", "contrastive", "consistency", "resizing"])
def test_a_technique_changes_what_is_learned(name: str, digits: ImageDataset, split: Split) -> None:
    without = {"augment": [{"name": "augmix"}, {"name": "flip"}]} if name == "consistency" else {}
    plain, other = (
        two_steps(small(epochs=2, **changes), digits, split).model.state_dict()
        for changes in (without, TECHNIQUES[name])
    )
    assert plain.keys() == other.keys(), "nothing of the technique is part of the model"
    assert any(not torch.equal(plain[key], other[key]) for key in plain)


def test_every_term_reaches_its_own_parameters(digits: ImageDataset, split: Split) -> None:
    config = small(**TECHNIQUES["supervision"], **TECHNIQUES["contrastive"])
    trial = TrialState(config, digits, split, torch.device("cpu"))
    before = [parameter.clone() for parameter in trial.terms.modules.parameters()]
    trial.begin_epoch(0)
    for batch in itertools.islice(trial.batches.train(np.arange(32), 0), 2):
        trial.stepper(batch.mixed)
    after = list(trial.terms.modules.parameters())
    assert before
    assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_images_grow(digits: ImageDataset, split: Split) -> None:
    trial = TrialState(small(epochs=4, **TECHNIQUES["resizing"]), digits, split, torch.device("cpu"))
    sizes = [
        tuple(next(iter(trial.batches.train(np.arange(20), epoch))).images.shape[2:]) for epoch in range(4)
    ]
    assert sizes == [(4, 4), (6, 6), (8, 8), (8, 8)]
    assert next(iter(trial.batches.evaluate(split.val))).images.shape[2:] == (8, 8)


def test_views_are_mixed_as_their_image_is(digits: ImageDataset, split: Split) -> None:
    """With a severity that changes next to nothing, the views of a mixed batch are the batch."""
    op = {"name": "augmix", "consistency": 1.0, "depth": 1, "alpha": 100.0}
    config = small(augment=[op], mixing={"name": "mixup", "alpha": 1.0, "per_sample": True})
    trial = TrialState(config, digits, split, torch.device("cpu"))
    mixed = next(iter(trial.batches.train(np.arange(16), 0))).mixed
    assert mixed.views is not None
    assert mixed.views.shape == (16, 2, *mixed.images.shape[1:])
    error = (mixed.views - mixed.images[:, None]).square().mean()
    shuffled = (mixed.views - mixed.images.roll(1, 0)[:, None]).square().mean()
    assert error < 0.5 * shuffled
    assert not torch.equal(mixed.views[:, 0], mixed.views[:, 1])


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_the_second_stage_trains_a_new_classifier_on_frozen_features(
    averaging: str, digits: ImageDataset, split: Split
) -> None:
    config = small(epochs=4, averaging=averaging, sampler="natural", **TECHNIQUES["retraining"])
    trial = TrialState(config, digits, split, torch.device("cpu"))
    for epoch in (0, 1):
        for batch in trial.batches.train(trial.begin_epoch(epoch), epoch):
            trial.stepper(batch.mixed)
            trial.averager.after_step()
    expected = {key: value.clone() for key, value in trial.averager.evaluated().state_dict().items()}
    drawn = trial.begin_epoch(2)
    fresh = trial.model.get_classifier().weight.clone()
    assert not torch.equal(fresh, expected["classifier.weight"])
    for batch in trial.batches.train(drawn, 2):
        trial.stepper(batch.mixed)
    for key, value in trial.averager.evaluated().state_dict().items():
        assert torch.equal(value, expected[key]) == (not key.startswith("classifier.")), key
    assert not torch.equal(trial.model.get_classifier().weight, fresh)
    np.testing.assert_allclose(trial.sampler.class_distribution(0), 0.1)
    assert trial.set_lr(2, 0) == config.optimizer.lr


def test_a_record_with_techniques_holds_the_plain_network(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    train(small(epochs=1), digits, split, tmp_path / "plain")
    changes = TECHNIQUES["supervision"] | TECHNIQUES["contrastive"]
    train(small(epochs=1, **changes), digits, split, tmp_path / "rich")
    plain, rich = (load_file(tmp_path / name / "best.safetensors") for name in ("plain", "rich"))
    assert {key: value.shape for key, value in plain.items()} == {
        key: value.shape for key, value in rich.items()
    }


def finished_teacher(digits: ImageDataset, split: Split, folder: Path, **changes: Any) -> Path:
    config = small(epochs=2, **changes)
    train(config, digits, split, folder)
    RecordFolder(folder).write_bytes("config.yaml", config.to_yaml().encode(), None)
    return folder


def taught(folder: Path, **changes: Any) -> TrialConfig:
    return small(distillation={"name": "teacher", "folder": str(folder), **changes})


def test_a_teacher_sees_what_it_was_trained_on(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    """Its answers to the student's images are its stored predictions, whatever its size and channels."""
    changes = {"data": {"flips": "none", "image_size": (12, 12)}, "backbone": "test_resnet"}
    folder = finished_teacher(digits, split, tmp_path, training={"precision": "fp32"}, **changes)
    stored = RecordFolder(folder).predictions()
    assert stored is not None
    trial = TrialState(taught(folder), digits, split, torch.device("cpu"))
    teacher = trial.terms.modules[0].teacher[0]
    answers = torch.cat([teacher(batch.images) for batch in trial.batches.evaluate(split.val)])
    np.testing.assert_allclose(answers.numpy(), stored.logits.astype(np.float32), atol=0.02)


def test_a_student_follows_its_teacher(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    folder = finished_teacher(digits, split, tmp_path)
    config = taught(folder, weight=1.0, temperature=1.0)
    trial = TrialState(config, digits, split, torch.device("cpu"))
    losses = []
    for epoch in range(3):
        for batch in trial.batches.train(trial.begin_epoch(epoch), epoch):
            losses.append(trial.stepper(batch.mixed).loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])


def test_a_teacher_of_other_classes_is_refused(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    folder = finished_teacher(digits, split, tmp_path / "teacher")
    names = (*digits.class_names[:9], "ten")
    other = ImageDataset(digits.images, digits.labels, names, "x", "x", digits.given_split)
    with pytest.raises(UsageError, match=r"same classes .* \('10' is|'9' is|'ten' is"):
        TrialState(taught(folder), other, split, torch.device("cpu"))
    with pytest.raises(UsageError, match="has none of model"):
        TrialState(taught(tmp_path), digits, split, torch.device("cpu"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation": "teacher"}, "a teacher must be named"),
        ({"epochs": 1, **TECHNIQUES["retraining"]}, "both stages must have an epoch, got 1"),
        (
            {**TECHNIQUES["retraining"], "training": {"early_stopping": 5}},
            "early stopping may leave out",
        ),
        ({**TECHNIQUES["retraining"], "posthoc": "tau_norm"}, "nothing to correct, got posthoc tau_norm"),
        ({"deep_supervision": {"name": "stages", "auxiliary": 5}}, "4 in test_efficientnet, got 5"),
        ({"frozen": "features", "mixing": "mixup"}, "train only a head, got mixing"),
        ({"frozen": "features", "augment": ["flip"]}, "flip with 0 views"),
        ({"frozen": "features", "tta": "flips"}, "train only a head, got tta"),
        ({"frozen": "features"}, "trained weights, got a random test_efficientnet"),
        ({"deep_supervision": "stagse"}, "did you mean 'stages'"),
    ],
)
def test_what_cannot_work_is_refused_when_the_configuration_is_made(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def parsed(changes: dict[str, Any]) -> TrialConfig:
    return validated(TrialConfig, {**small().model_dump(mode="json"), **changes})


def test_a_network_of_one_size_is_not_resized() -> None:
    changes = {"backbone": {"name": "swin_tiny_patch4_window7_224"}, **TECHNIQUES["resizing"]}
    with pytest.raises(UsageError, match="images of any size, which swin_tiny"):
        parsed(changes)

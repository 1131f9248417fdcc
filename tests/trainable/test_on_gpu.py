"""What only a GPU can show: recorded passes, packed memory, formats, images that stay on the host.

python -m pytest -m gpu
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analysis.records import RecordFolder
from tests.trainable.test_loop import small
from trainable import graphs as graphs_module
from trainable.config import TrialConfig
from trainable.data import batches as batches_module
from trainable.data.dataset import ImageDataset, Split
from trainable.graphs import GraphedForward
from trainable.loop import EpochReport, fit
from trainable.seeding import seeded
from trainable.state import TrialState

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]
GPU = torch.device("cuda")
EXACT: dict[str, Any] = {"precision": "fp32"}
BROKEN: list[Any] = []
"""Recordings that were meant to break off, kept to the end: torch may still look at them."""


@pytest.fixture(autouse=True)
def _one_way_to_compute() -> Iterator[None]:
    """Gradients are added up in one order, so that two trainings can be compared."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = False, True
    torch.cuda.empty_cache()


def trained(config: TrialConfig, digits: ImageDataset, split: Split, epochs: int = 2) -> TrialState:
    """Return the state after some epochs, as `fit` trains them."""
    trial = TrialState(config, digits, split, GPU)
    for epoch in range(epochs):
        positions = trial.begin_epoch(epoch)
        with seeded(GPU, config.seed, "epoch", epoch):
            for number, batch in enumerate(trial.batches.train(positions, epoch)):
                trial.set_lr(epoch, number)
                trial.stepper(batch.mixed)
                trial.averager.after_step()
    return trial


def apart(one: TrialState, two: TrialState) -> float:
    """Return the largest difference of a weight or a statistic."""
    mine, theirs = one.model.state_dict(), two.model.state_dict()
    return max(float((mine[key].double() - theirs[key].double()).abs().max()) for key in mine)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "resnet10t"},
        {"backbone": {"name": "test_efficientnet", "drop_rate": 0.4, "drop_path_rate": 0.2}},
        {"averaging": "ema", "mixing": "mixup", "training": {**EXACT, "clip_norm": 0.5}},
        {"optimizer": {"name": "sgd", "lr": 0.05}, "training": {"precision": "bf16"}},
        {"training": {"precision": "fp16"}},
    ],
    ids=["plain", "channels-last", "dropout", "clipped", "bf16", "fp16"],
)
def test_a_recorded_pass_trains_what_a_plain_one_does(
    digits: ImageDataset, split: Split, changes: dict[str, Any]
) -> None:
    changes = {"training": EXACT, "augment": ["rotation", "brightness"], **changes}
    config = small(**changes)
    without = small(**{**changes, "training": {**changes["training"], "graphs": False}})
    assert config.fingerprint() == without.fingerprint()
    recorded, plain, again = (trained(given, digits, split) for given in (config, without, without))
    assert isinstance(recorded.forward, GraphedForward)
    assert recorded.forward.recorded, recorded.forward.refused
    assert recorded.forward.refused is None
    assert plain.forward is plain.model
    standing = config.backbone.name == "resnet10t" or config.training.precision == "fp16"
    assert recorded.precision.channels_last is standing
    noise = apart(plain, again)
    assert apart(recorded, plain) <= max(10 * noise, 1e-4 if config.training.precision == "fp32" else 1e-2)


def test_passes_of_another_shape_or_mode_go_through_the_network(digits: ImageDataset, split: Split) -> None:
    trial = trained(small(training=EXACT), digits, split)
    forward = trial.forward
    assert isinstance(forward, GraphedForward)
    images = torch.randn(16, 1, 8, 8, device=GPU).repeat(1, trial.batches.channels, 1, 1)
    images = images.contiguous(memory_format=trial.precision.memory_format)
    trial.model.train()
    statistics = {key: value.clone() for key, value in trial.model.named_buffers()}
    one = forward(images).detach().clone()
    trial.model.load_state_dict(statistics, strict=False)
    assert torch.allclose(one, trial.model(images), atol=1e-5)
    assert forward(images[:5]).shape == (5, 10)
    trial.model.eval()
    assert torch.equal(forward(images), trial.model(images))


def test_gradients_of_micro_batches_add_up(digits: ImageDataset, split: Split) -> None:
    cut = small(training={**EXACT, "accumulate": 2}, backbone={"name": "test_efficientnet"})
    one = trained(cut, digits, split, 1)
    two = trained(cut.model_copy(update={"training": cut.training.model_copy(update={"graphs": False})}),
                  digits, split, 1)  # fmt: skip
    assert isinstance(one.forward, GraphedForward)
    assert not one.forward.recorded
    assert apart(one, two) < 1e-4


@pytest.mark.parametrize("seen_before", [True, False], ids=["asks for a number", "waits for the device"])
def test_a_network_that_cannot_be_recorded_trains_all_the_same(
    digits: ImageDataset, split: Split, monkeypatch: pytest.MonkeyPatch, seen_before: bool
) -> None:
    """Only what no trial pass shows breaks a recording off, and then no other is begun in the process."""
    broken: list[Any] = []
    monkeypatch.setattr(graphs_module, "_FAILED", broken)  # so that later tests record
    trial = TrialState(small(training=EXACT), digits, split, GPU)

    class Asking(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.layer(images.flatten(1))
            if seen_before:
                return logits if logits.mean().item() > 0 else -logits
            torch.cuda.synchronize()
            return logits

    forward = GraphedForward(Asking().to(GPU), trial.precision, 4)
    for _ in range(3):
        forward(torch.randn(4, 1, 8, 8, device=GPU)).sum().backward()
    BROKEN.extend(broken)
    assert forward.refused
    assert not forward.recorded
    assert len(broken) == (0 if seen_before else 1)
    assert torch.cuda.get_sync_debug_mode() == 0
    monkeypatch.undo()
    assert isinstance(after := trained(small(training=EXACT), digits, split, 1).forward, GraphedForward)
    assert after.recorded, after.refused


def test_a_batch_that_does_not_fit_is_cut(digits: ImageDataset, split: Split) -> None:
    """A tenth of a GiB for passes of a GiB: the step is the same, in parts."""
    config = small(
        batch_size=80, data={"flips": "none", "image_size": (192, 192)}, backbone="resnet10t", training=EXACT
    )
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    try:
        torch.cuda.set_per_process_memory_fraction(600 * 2**20 / total)
        reports = list(fit(config.model_copy(update={"epochs": 1}), digits, split, device=GPU))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert reports[-1].diverged is None
    assert reports[-1].cost["peak_device_bytes"] < 600 * 2**20
    free = list(fit(config.model_copy(update={"epochs": 1}), digits, split, device=GPU))
    assert free[-1].cost["peak_device_bytes"] > 600 * 2**20, "else nothing had to be cut"


def test_images_that_do_not_fit_stay_on_the_host(
    digits: ImageDataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(training=EXACT, augment=["rotation", "erasing"])
    resident = trained(config, digits, split, 1)
    monkeypatch.setattr(batches_module, "_RESIDENT_SHARE", 0.0)
    streamed = trained(config, digits, split, 1)
    assert apart(resident, streamed) < 1e-4


def test_batches_that_are_augmented_together_are_those_of_the_epoch(
    digits: ImageDataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without randomness they are the same images in the same order; with it, no two are moved alike."""
    order = np.random.default_rng(0).permutation(len(split.train))
    plain = TrialState(small(training=EXACT), digits, split, GPU).batches
    together = list(plain.train(order, 0))
    assert [len(batch.targets) for batch in together] == [16, 16, 16, 16, 16, 14]
    monkeypatch.setattr(batches_module, "MOST_AT_ONCE", 1)
    for one, other in zip(together, plain.train(order, 0), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.positions, other.positions)
    monkeypatch.undo()
    same = np.zeros(64, dtype=np.int64)
    turned = TrialState(small(training=EXACT, augment=["rotation"]), digits, split, GPU).batches
    seen = torch.cat([batch.images for batch in turned.train(same, 0)]).flatten(1).cpu()
    assert len(torch.unique(seen, dim=0)) == 64


def test_a_trial_goes_on_as_if_it_had_not_been_stopped(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(training=EXACT, epochs=4, averaging="ema", augment=["rotation"])
    list(fit(config, digits, split, record=RecordFolder(tmp_path / "whole"), device=GPU))
    record = RecordFolder(tmp_path / "cut")
    half: list[EpochReport] = []
    for report in fit(config, digits, split, record=record, checkpoint_seconds=0, device=GPU):
        half.append(report)
        if report.epoch == 2:
            break
    rest = list(fit(config, digits, split, record=record, device=GPU))
    assert [epoch for epoch, _ in rest[-1].curve] == [1, 2, 3, 4]
    losses = [[row.train_loss for row in RecordFolder(tmp_path / name).epochs()] for name in ("whole", "cut")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_what_a_trial_held_is_freed(digits: ImageDataset, split: Split) -> None:
    def held() -> int:
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    config = small(training=EXACT, backbone="resnet10t", epochs=1)
    list(fit(config, digits, split, device=GPU))
    first = held()
    for _ in range(3):
        list(fit(config, digits, split, device=GPU))
    assert held() <= first

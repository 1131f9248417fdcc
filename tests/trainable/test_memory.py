"""A step that does not fit into the device's memory is taken in smaller parts of the same batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from analysis.errors import TailtuneError
from analysis.records import RecordFolder
from tests.trainable.test_loop import small
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.graphs import GraphedForward
from trainable.loop import fit
from trainable.mixing import Mixed
from trainable.state import TrialState


@contextmanager
def memory_for(images: int) -> Iterator[list[int]]:
    """Have convolutions run out of memory above a number of images; yields the sizes that fit."""
    fitted: list[int] = []

    def guard(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if isinstance(module, nn.Conv2d):
            if len(given[0]) > images:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")
            fitted.append(len(given[0]))

    handle = nn.modules.module.register_module_forward_pre_hook(guard)
    try:
        yield fitted
    finally:
        handle.remove()


def state_of(config: TrialConfig, digits: ImageDataset, split: Split) -> TrialState:
    return TrialState(config, digits, split, torch.device("cpu"))


@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_the_step_is_that_of_as_many_parts_from_the_start(
    optimizer: str, digits: ImageDataset, split: Split
) -> None:
    config = small(batch_size=32, backbone="vit_tiny_patch16_224", optimizer=optimizer)
    parts = config.model_copy(update={"training": config.training.model_copy(update={"accumulate": 4})})
    batch = next(iter(state_of(config, digits, split).batches.train(np.arange(32), 0))).mixed
    found, expected = state_of(config, digits, split), state_of(parts, digits, split)
    with memory_for(images=8):
        found.stepper(batch)
    expected.stepper(batch)
    assert found.stepper.accumulate == 4
    for mine, theirs in zip(found.model.parameters(), expected.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_trial_ends_says_how_many_parts_it_took_and_a_resumed_one_begins_with_them(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    record = RecordFolder(tmp_path / "0")
    config = small(epochs=2, batch_size=32, training={"precision": "fp32"})
    with memory_for(images=8):
        for report in fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu"):
            assert report.diverged is None
            break
    assert record.summary is not None
    assert record.summary.auto["accumulate"] == 4
    with memory_for(images=8) as fitted:
        *_, last = fit(config, digits, split, record=record, checkpoint_seconds=0, device="cpu")
    assert last.final
    assert max(fitted) <= 8


def test_what_a_recording_keeps_is_given_back_before_a_batch_is_cut(
    digits: ImageDataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(small(batch_size=32), digits, split)
    batch: Mixed = next(iter(state.batches.train(np.arange(32), 0))).mixed
    plain = state_of(small(batch_size=32), digits, split)
    plain.stepper(batch)
    forward = GraphedForward(state.model, state.precision, 32)

    def replayed(images: Tensor) -> Tensor:
        state.model(images).sum().backward()  # gradients that have to go
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(forward, "_shape", batch.images.shape)
    monkeypatch.setattr(forward, "_recording", replayed)
    monkeypatch.setattr(state.stepper, "forward", forward)
    state.stepper(batch)
    assert not forward.recorded
    assert state.stepper.accumulate == 1
    for mine, theirs in zip(state.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    with memory_for(images=16):
        state.stepper(batch)
    assert state.stepper.accumulate == 2


def test_where_not_even_two_images_fit_one_line_says_so(digits: ImageDataset, split: Split) -> None:
    state = state_of(small(batch_size=32), digits, split)
    batch: Mixed = next(iter(state.batches.train(np.arange(32), 0))).mixed
    with memory_for(images=1), pytest.raises(TailtuneError, match=r"two images .* 2\.00 GiB\.;") as error:
        state.stepper(batch)
    assert "--gpus-per-trial" in (error.value.remedy or "")

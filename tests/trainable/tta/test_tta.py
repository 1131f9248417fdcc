"""Test-time augmentation: the views are what they say, and the stored numbers are their mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from analysis.records import RecordFolder
from tests.trainable.test_loop import small
from trainable.checkpoint import load_weights
from trainable.data.dataset import ImageDataset, Split
from trainable.evaluate import predict_logits
from trainable.loop import fit
from trainable.precision import Precision
from trainable.state import TrialState
from trainable.tta import TTA, Zoom, mirrored

FP32 = Precision("fp32", channels_last=False)
CPU = torch.device("cpu")


@dataclasses.dataclass
class Images:
    images: torch.Tensor


@pytest.mark.parametrize(("flips", "number"), [("none", 0), ("h", 1), ("v", 1), ("hv", 3), ("dihedral", 7)])
def test_mirrorings_are_those_of_the_data_and_all_different(flips: str, number: int) -> None:
    image = torch.arange(18.0).view(1, 2, 3, 3)
    shown = [image, *(view(image) for view in mirrored(flips))]
    assert len({tuple(view.flatten().tolist()) for view in shown}) == number + 1


def test_turns_keep_the_size_of_images_that_are_not_square() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    assert {view(image).shape for view in mirrored("dihedral")} == {image.shape}


def test_a_zoom_shows_the_middle_larger_and_brings_in_the_mean() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[:, :, 3:6, 3:6] = 1.0
    assert Zoom(1.5)(image).sum() > 1.5 * image.sum()
    assert Zoom(0.5)(torch.ones(1, 1, 8, 8))[0, 0, 0, 0] == 0.0
    torch.testing.assert_close(Zoom(1.0)(image), image)


def test_logits_are_the_logarithm_of_the_mean_probability() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    images = torch.randn(5, 2, 2, 2)
    found = predict_logits(model, [Images(images)], FP32, CPU, mirrored("h"))
    with torch.inference_mode():
        both = (model(images).softmax(1) + model(images.flip(3)).softmax(1)) / 2
    np.testing.assert_allclose(found.astype(np.float64), both.log().numpy(), atol=2e-3)
    probabilities = np.exp(found.astype(np.float64))
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=5e-3)


@pytest.mark.parametrize("name", TTA.names())
def test_views_of_every_member_keep_shapes(name: str) -> None:
    images = torch.randn(2, 3, 6, 8)
    for view in TTA.parse(name).views("hv"):
        assert view(images).shape == images.shape


def test_the_chosen_epochs_predictions_take_the_views(
    digits: ImageDataset, split: Split, tmp_path: Path
) -> None:
    config = small(epochs=2, data={"flips": "hv"}, tta="flips_scales")
    plain = list(fit(small(epochs=2, data={"flips": "hv"}), digits, split, device="cpu"))
    record = RecordFolder(tmp_path)
    reports = list(fit(config, digits, split, record=record, device="cpu"))
    assert reports[-1].curve == plain[-1].curve, "training and the choice of the epoch see the plain image"
    stored = record.predictions()
    assert stored is not None
    trial = TrialState(config, digits, split, CPU)
    load_weights(tmp_path / "best.safetensors", trial.model)
    views = config.tta.views("hv")
    assert len(views) == 5
    expected = predict_logits(trial.model, trial.batches.evaluate(split.val), trial.precision, CPU, views)
    np.testing.assert_allclose(stored.logits.astype(float), expected.astype(float), atol=2e-2)
    assert record.summary is not None
    assert record.summary.macro_f1 == reports[-1].best_macro_f1
    assert record.summary.cost.forward_passes == 6
    assert reports[-1].cost["forward_passes"] == 6
    assert plain[-1].cost["forward_passes"] == 1


def test_what_the_views_cost_is_measured(digits: ImageDataset, split: Split, tmp_path: Path) -> None:
    """Eight passes an image take longer than one: the record says how many images a second are left."""
    rates = {}
    for tta in ("none", "flips"):
        record = RecordFolder(tmp_path / tta)
        config = small(epochs=2, data={"flips": "dihedral"}, tta=tta, training={"precision": "fp32"})
        list(fit(config, digits, split, record=record, device="cpu"))
        assert record.summary is not None
        rates[tta] = record.summary.cost.predict_images_per_second
    assert rates["none"] is not None
    assert rates["flips"] is not None
    assert rates["flips"] < 0.6 * rates["none"]

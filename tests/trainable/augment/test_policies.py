"""The picture operations against torchvision's, the policies that choose among them, and GridMask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchvision.transforms import AutoAugment as Torchvision
from torchvision.transforms import AutoAugmentPolicy
from torchvision.transforms.v2 import functional as tv

from tests.trainable.augment.pictures import make_draw, noise
from trainable.augment import AUGMENT
from trainable.augment import operations as ops
from trainable.augment.auto_augment import _SPACE as AUTO_SPACE
from trainable.augment.auto_augment import _pairs
from trainable.augment.operations import Magnitudes, applied

POLICIES = ["auto_augment", "rand_augment", "trivial_augment", "augmix"]

SAME_AS: list[tuple[str, float, Callable[[torch.Tensor], torch.Tensor]]] = [
    ("brightness", 0.4, lambda x: tv.adjust_brightness(x, 1.4)),
    ("brightness", -0.9, lambda x: tv.adjust_brightness(x, 0.1)),
    ("colour", 0.7, lambda x: tv.adjust_saturation(x, 1.7)),
    ("contrast", -0.5, lambda x: tv.adjust_contrast(x, 0.5)),
    ("sharpness", 0.9, lambda x: tv.adjust_sharpness(x, 1.9)),
    ("sharpness", -0.9, lambda x: tv.adjust_sharpness(x, 0.1)),
    ("posterize", 3.0, lambda x: tv.posterize(x, 3)),
    ("solarize", 100 / 255, lambda x: tv.solarize(x, 100)),
    ("invert", 0.0, tv.invert),
    ("auto_contrast", 0.0, tv.autocontrast),
    ("equalize", 0.0, tv.equalize),
]


@pytest.mark.parametrize(
    ("name", "amount", "theirs"), SAME_AS, ids=[f"{row[0]}{row[1]:+.1f}" for row in SAME_AS]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_operation_equals_torchvisions(name: str, amount: float, theirs, channels: int):
    """Within two grey levels: theirs are cut to whole ones, some of them twice."""
    raw = (noise(6, channels, 20, 14) ** 2 / 255 * 0.8 + 20).floor()
    mine = ops.OPERATIONS[name](raw / 255, torch.full((6,), amount)).clamp(0, 1)
    for one, before in zip(mine, raw, strict=True):
        expected = theirs(before.to(torch.uint8)).float() / 255
        assert (one - expected).abs().max() <= 2.0 / 255


@pytest.mark.parametrize("levels", [1, 2])
def test_flat_channels_stay_as_they_are(levels: int):
    flat = torch.full((2, 3, 6, 6), 77 / 255)
    flat[:, :, 0, : levels - 1] = 78 / 255
    assert torch.allclose(ops.equalize(flat, torch.zeros(2)), flat, atol=1e-6)
    if levels == 1:
        assert torch.equal(ops.auto_contrast(flat, torch.zeros(2)), flat)


@pytest.mark.parametrize(("height", "width"), [(15, 15), (11, 21)])
def test_geometry_equals_torchvisions(height: int, width: int):
    picture = torch.zeros(1, 1, height, width)
    picture[:, :, 3:8, 2:9] = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    one = torch.ones(1)

    def theirs(angle: float = 0.0, translate: tuple[int, int] = (0, 0)) -> torch.Tensor:
        moved = tv.affine(picture - 0.5, angle, list(translate), 1.0, [0.0, 0.0], tv.InterpolationMode.BILINEAR)
        return moved + 0.5

    assert torch.allclose(ops.translate_x(picture, one * 3.4 / width), theirs(translate=(3, 0)), atol=1e-4)
    assert torch.allclose(ops.translate_y(picture, one * -2.2 / height), theirs(translate=(0, -2)), atol=1e-4)
    assert torch.allclose(ops.rotate(picture, one * 20.0), theirs(angle=-20.0), atol=1e-4)


def test_shear_moves_rows_in_proportion_to_their_distance_from_the_middle():
    picture = torch.zeros(1, 1, 9, 15)
    picture[..., 7] = 1.0
    sheared = ops.shear_x(picture - 0.0, torch.ones(1))[0, 0]
    for row in range(9):
        assert sheared[row, 7 - (row - 4)] == pytest.approx(1.0, abs=1e-4)


def test_applied_runs_each_operation_on_its_own_images_alone():
    images = noise(6, 3, 8, 8) / 255
    names = ["invert", "identity", "solarize", "invert", "identity", "brightness"]
    space = {
        "invert": Magnitudes(),
        "solarize": Magnitudes(1.0, 0.0),
        "brightness": Magnitudes(0.0, 0.5, signed=True),
    }
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, 1.0, -1.0])
    out = applied(images.clone(), names, torch.full((6,), 0.5), signs, space)
    assert torch.equal(out[[0, 3]], 1 - images[[0, 3]])
    assert torch.equal(out[[1, 4]], images[[1, 4]])
    assert torch.equal(out[2], torch.where(images[2] >= 0.5, 1 - images[2], images[2]))
    assert torch.allclose(out[5], images[5] * 0.75)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet", "svhn"])
def test_auto_augment_has_the_papers_pairs(policy: str):
    theirs = Torchvision(AutoAugmentPolicy(policy))
    pairs = _pairs(policy)
    assert len(pairs) == 25
    magnitudes = theirs._augmentation_space(10, (32, 32))
    for mine, other in zip(pairs, theirs.policies, strict=True):
        for (name, p, strength), (their_name, their_p, level) in zip(mine, other, strict=True):
            assert p == their_p
            assert name.replace("_", "").replace("colour", "color") == their_name.lower()
            law = AUTO_SPACE[name]
            amount = law.weakest + (law.strongest - law.weakest) * strength
            wanted = float(magnitudes[their_name][0][level]) if level is not None else 0.0
            scale = {"translate_x": 32, "translate_y": 32, "solarize": 255}.get(name, 1)
            got = round(amount) if name == "posterize" else amount * scale
            assert got == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("shape", [(16, 1, 8, 8), (16, 3, 12, 17)])
def test_a_policy_stays_in_range_and_changes_most_images(name: str, shape: tuple[int, ...]):
    images = noise(*shape) / 255
    out = AUGMENT.parse(name).apply(images.clone(), make_draw(shape[0], *shape[2:]))
    assert out.min() >= -1e-6
    assert out.max() <= 1 + 1e-6
    assert (out != images).flatten(1).any(1).float().mean() > 0.5


def test_trivial_augment_applies_one_operation_in_fourteen_each():
    images = noise(1, 3, 16, 16).repeat(2800, 1, 1, 1) / 255
    out = AUGMENT.parse("trivial_augment").apply(images.clone(), make_draw(2800, 16, 16))
    inverted = (out - ops.auto_contrast(images, torch.zeros(1))).abs().flatten(1).amax(1) < 1e-6
    assert 130 < inverted.sum() < 280


def test_rand_augment_at_magnitude_0_only_does_what_has_no_magnitude():
    images = noise(200, 3, 16, 16) / 255
    op = AUGMENT.parse({"name": "rand_augment", "magnitude": 0, "num_ops": 1})
    out = op.apply(images.clone(), make_draw(200, 16, 16))
    unchanged = (out - images).abs().flatten(1).amax(1) < 1e-4
    assert 0.7 < unchanged.float().mean() < 0.9


def test_augmix_is_a_mixture_with_the_image():
    """A constant image under one colour-free chain: the share of the image is Beta(1, 1), mean one half."""
    images = torch.full((4000, 1, 4, 4), 0.5)
    op = AUGMENT.parse({"name": "augmix", "width": 2, "severity": 1})
    out = op.apply(images.clone(), make_draw(4000, 4, 4))
    assert (out - images).abs().max() <= 0.5
    assert AUGMENT.parse("augmix").depth is None


def test_gridmask_by_hand():
    """Cells of the whole side, 8, with half of each hidden: a 4x4 square somewhere, cyclically."""
    op = AUGMENT.parse({"name": "gridmask", "p": 1.0, "ramp": 0.0, "keep_ratio": 0.5, "min_cell": 1.0})
    keep = op.keep(make_draw(200, 8, 8))[:, 0]
    for mask in ~keep:
        rows, columns = mask.any(1), mask.any(0)
        assert rows.sum() == columns.sum() == 4
        assert torch.equal(mask, rows[:, None] & columns)
    places = {tuple(mask.any(1).nonzero().flatten().tolist()) for mask in ~keep}
    assert len(places) == 8


def test_gridmask_keeps_the_papers_share():
    op = AUGMENT.parse({"name": "gridmask", "p": 1.0, "ramp": 0.0, "keep_ratio": 0.6})
    kept = op.keep(make_draw(500, 100, 140)).float().mean()
    assert kept == pytest.approx(1 - (1 - 0.6) ** 2, abs=0.02)


def test_gridmask_ramps_up():
    op = AUGMENT.parse({"name": "gridmask", "p": 0.8, "ramp": 1.0})
    share = (~op.keep(make_draw(4000, 16, 16))).flatten(1).any(1).float().mean()
    assert share == pytest.approx(0.4, abs=0.03)


def test_choices_come_from_the_batchs_own_seed():
    drawn = [make_draw(4, 8, 8, seed=seed).host_rng().random() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert np.isfinite(drawn).all()

"""Each operation does what its docstring says."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from analysis.errors import UsageError
from tests.trainable.augment.pictures import make_draw, noise, pipeline
from trainable.augment import AUGMENT
from trainable.config import TrialConfig


def run(op: object, raw: torch.Tensor, flips: str = "h", seed: int = 0) -> torch.Tensor:
    size = (raw.shape[2], raw.shape[3])
    draw = make_draw(len(raw), *size, flips, seed)
    return pipeline([AUGMENT.parse(op)], raw.shape[1])(raw.clone(), size, draw)


def plain(raw: torch.Tensor) -> torch.Tensor:
    return pipeline([], raw.shape[1])(raw.clone(), (raw.shape[2], raw.shape[3]), None)


@pytest.mark.parametrize(("flips", "axes"), [("h", (3,)), ("v", (2,)), ("hv", (2, 3))])
def test_flip_is_exact(flips: str, axes: tuple[int, ...]):
    raw = noise(4, 3, 6, 9)
    assert torch.equal(run({"name": "flip", "p": 1.0}, raw, flips), plain(raw).flip(axes))


def test_flip_does_nothing_where_the_data_forbid_it():
    raw = noise(64, 1, 6, 6)
    assert torch.equal(run("flip", raw, "none"), plain(raw))


def test_flip_h_mirrors_about_half_of_the_images():
    raw = noise(2000, 1, 2, 3)
    mirrored = (run("flip", raw) != plain(raw)).flatten(1).any(1)
    assert 0.45 < mirrored.float().mean() < 0.55


def test_dihedral_draws_all_eight_symmetries_alike():
    raw = noise(1, 1, 5, 5).repeat(4000, 1, 1, 1)
    images, counts = torch.unique(run("flip", raw, "dihedral").flatten(1), dim=0, return_counts=True)
    square = plain(raw[:1])[0, 0]
    expected = [torch.rot90(side, k) for side in (square, square.T) for k in range(4)]
    assert {tuple(image.tolist()) for image in images} == {tuple(e.flatten().tolist()) for e in expected}
    assert counts.min() > 400
    assert counts.max() < 600


def test_dihedral_on_an_oblong_is_hv():
    raw = noise(200, 1, 4, 6)
    images = torch.unique(run("flip", raw[:1].repeat(200, 1, 1, 1), "dihedral").flatten(1), dim=0)
    assert len(images) == 4


def test_crop_reaches_every_shift_alike_and_none_further():
    op = AUGMENT.parse({"name": "crop", "padding": 2})
    shifts = op.matrix(make_draw(20_000, 8, 8))[:, 0, 2]
    values, counts = torch.unique(shifts, return_counts=True)
    assert values.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert counts.min() > 3_700
    assert counts.max() < 4_300


def test_rotation_is_a_rotation_within_its_limit():
    matrices = AUGMENT.parse({"name": "rotation", "degrees": 15.0}).matrix(make_draw(1000, 20, 30))
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]) * 180 / math.pi
    assert 14 < angles.max() <= 15
    assert -15 <= angles.min() < -14
    eye = matrices @ matrices.transpose(1, 2)
    assert torch.allclose(eye, torch.eye(3).expand_as(eye), atol=1e-6)


def test_scale_by_two_enlarges():
    """At 2 about the centre, the middle half of a step edge fills the picture; at 1/2 a border comes in."""
    raw = torch.full((64, 1, 16, 16), 255.0)
    small = run({"name": "scale", "low": 0.5, "high": 1.0}, raw)
    matrices = AUGMENT.parse({"name": "scale", "low": 0.5, "high": 1.0}).matrix(make_draw(64, 16, 16))
    covered = (small > 1.99).flatten(1).sum(1).float() ** 0.5
    assert torch.all((covered - 16 / matrices[:, 0, 0]).abs() < 2.0)
    large = run({"name": "scale", "low": 1.0, "high": 2.0}, raw)
    assert torch.allclose(large, torch.full_like(large, 2.0), atol=1e-4)


def test_brightness_equals_torchvision():
    raw = noise(8, 3, 5, 7)
    factors = AUGMENT.parse("brightness").matrix(make_draw(8, 5, 7), 3)[:, 0, 0]
    out = run("brightness", raw) * 0.25 + 0.5
    for image, before, factor in zip(out, raw, factors.tolist(), strict=True):
        assert torch.allclose(image, tv.adjust_brightness(before / 255, factor), atol=1e-5)
    assert torch.all((factors >= 0.8) & (factors <= 1.2))


def test_saturation_equals_torchvision():
    raw = noise(8, 3, 5, 7)
    op = {"name": "colour_jitter", "brightness": 0.0, "contrast": 0.0, "saturation": 0.5}
    matrices = AUGMENT.parse(op).matrix(make_draw(8, 5, 7), 3)
    out = run(op, raw) * 0.25 + 0.5
    for image, before, matrix in zip(out, raw, matrices, strict=True):
        factor = float((matrix[0, 0] - 0.299) / (1 - 0.299))
        assert torch.allclose(image, tv.adjust_saturation(before / 255, factor), atol=1e-3)


def test_contrast_turns_about_mid_grey():
    raw = torch.full((16, 3, 4, 4), 127.5)
    assert torch.allclose(
        run({"name": "colour_jitter", "brightness": 0.0, "contrast": 1.0}, raw), plain(raw), atol=1e-5
    )


def test_hue_keeps_luma_and_grey_and_turns_by_the_angle():
    op = AUGMENT.parse({"name": "colour_jitter", "brightness": 0, "contrast": 0, "saturation": 0, "hue": 0.5})
    matrices = op.matrix(make_draw(100, 4, 4), 3)[:, :, :3]
    luma, grey = torch.tensor([0.299, 0.587, 0.114]), torch.ones(3)
    assert torch.allclose(luma @ matrices, luma.expand(100, 3), atol=1e-5)
    assert torch.allclose(matrices @ grey, grey.expand(100, 3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(100), atol=1e-4)


def test_erasing_hides_rectangles_of_the_stated_area():
    raw = torch.full((2000, 1, 40, 30), 255.0)
    op = {"name": "erasing", "p": 0.5, "min_area": 0.1, "max_area": 0.2, "min_aspect": 0.5}
    hidden = run(op, raw)[:, 0] == 0
    areas = hidden.flatten(1).float().mean(1)
    hit = areas > 0
    assert 0.45 < hit.float().mean() < 0.55
    assert areas[hit].min() > 0.08
    assert areas[hit].max() < 0.22
    for mask in hidden[hit][:50]:
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns)
        assert rows.nonzero().diff(dim=0).eq(1).all()


def test_erasing_areas_must_be_in_order():
    with pytest.raises(UsageError, match="min_area must be at most max_area"):
        TrialConfig.from_yaml("augment: [{name: erasing, min_area: 0.5, max_area: 0.1}]")


def test_a_law_is_said_with_its_value():
    with pytest.raises(UsageError, match=r"degrees: input should be less than or equal to 180, got 200"):
        TrialConfig.from_yaml("augment: [{name: rotation, degrees: 200}]")

"""Composition, coordinates and identities of the pipeline, against pictures worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainable.augment.pictures import make_draw, noise, pipeline
from trainable.augment import AUGMENT, affine
from trainable.augment.pipeline import resized, warped


def test_nothing_active_is_the_normalised_image_bit_for_bit():
    idle = [
        {"name": "flip", "p": 0.0},
        {"name": "crop", "padding": 0},
        {"name": "rotation", "degrees": 0.0},
        {"name": "scale", "low": 1.0, "high": 1.0},
        {"name": "brightness", "strength": 0.0},
        {"name": "colour_jitter", "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
        {"name": "erasing", "p": 0.0},
    ]
    raw = noise(4, 3, 9, 13)
    out = pipeline([AUGMENT.parse(op) for op in idle])(raw.clone(), (9, 13), make_draw(4, 9, 13))
    assert torch.equal(out, pipeline([])(raw.clone(), (9, 13), None))
    assert torch.allclose(out, (raw / 255 - 0.5) / 0.25, atol=1e-6)


def test_whole_moves_keep_values_bit_for_bit():
    """Flips and translations only move pixels: every value was there before, or is the mean (zero)."""
    raw = noise(32, 3, 10, 14)
    plain = pipeline([])(raw.clone(), (10, 14), None)
    ops = [AUGMENT.parse("flip"), AUGMENT.parse({"name": "crop", "padding": 3})]
    out = pipeline(ops)(raw.clone(), (10, 14), make_draw(32, 10, 14, flips="hv"))
    for image, before in zip(out, plain, strict=True):
        assert np.isin(image.numpy(), np.append(before.numpy(), 0.0)).all()


def test_translation_by_one_pixel():
    draw = make_draw(1, 2, 3)
    picture = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    right = affine(draw, [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    down = affine(draw, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    expected_right = torch.tensor([[[[2.0, 3.0, 0.0], [5.0, 6.0, 0.0]]]])
    expected_down = torch.tensor([[[[4.0, 5.0, 6.0], [0.0, 0.0, 0.0]]]])
    for mode in ("nearest", "bilinear"):
        assert torch.allclose(warped(picture, right, (2, 3), mode), expected_right, atol=1e-5)
        assert torch.allclose(warped(picture, down, (2, 3), mode), expected_down, atol=1e-5)


@pytest.mark.parametrize("side", [4, 5, 32])
def test_a_right_angle_is_exact_on_a_square(side: int):
    picture = noise(1, 3, side, side)
    quarter = affine(make_draw(1, side, side), [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    turned = torch.rot90(picture, 1, (2, 3))
    assert torch.equal(warped(picture, quarter, (side, side), "nearest"), turned)
    assert torch.allclose(warped(picture, quarter, (side, side)), turned, atol=1e-2)


def test_a_rotation_keeps_distances_where_height_and_width_differ():
    """A point 10 pixels right of the centre of a 41 x 81 image lies 10 pixels above or below it afterwards."""
    picture = torch.zeros(1, 1, 41, 81)
    picture[0, 0, 20, 50] = 1.0
    quarter = affine(make_draw(1, 41, 81), [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    where = warped(picture, quarter, (41, 81), "nearest")[0, 0].nonzero()
    assert where.tolist() == [[10, 40]]


def test_bilinear_between_pixels():
    picture = torch.tensor([[[[10.0, 20.0, 40.0]]]])
    half = affine(make_draw(1, 1, 3), [[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]])
    assert torch.allclose(warped(picture, half, (1, 3)), torch.tensor([[[[15.0, 30.0, 20.0]]]]), atol=1e-4)


def test_composition_applies_the_first_name_first():
    """Crop before flip: shifted to the left by d, then mirrored, is mirrored, then shifted to the right."""
    raw = noise(64, 1, 6, 7)
    crop, flip = AUGMENT.parse({"name": "crop", "padding": 2}), AUGMENT.parse({"name": "flip", "p": 1.0})
    plain = pipeline([], 1)(raw.clone(), (6, 7), None)
    out = pipeline([flip, crop], 1)(raw.clone(), (6, 7), make_draw(64, 6, 7))
    shifts = crop.matrix(make_draw(64, 6, 7))[:, :2, 2].int()
    assert len(torch.unique(shifts, dim=0)) > 10
    for image, before, (x, y) in zip(out, plain, shifts.tolist(), strict=True):
        canvas = torch.zeros(10, 11)
        canvas[2:8, 2:9] = before[0]
        expected = canvas[2 + y : 8 + y, 2 + x : 9 + x].flip(-1)
        assert torch.equal(image[0], expected)


def test_the_order_of_the_list_does_not_matter():
    names = ["erasing", "rotation", "flip", "crop", "scale", "brightness", "colour_jitter"]
    raw = noise(8, 3, 16, 16)
    ops = [AUGMENT.parse(name) for name in names]
    one = pipeline(ops)(raw.clone(), (16, 16), make_draw(8, 16, 16))
    other = pipeline(ops[::-1])(raw.clone(), (16, 16), make_draw(8, 16, 16))
    assert torch.equal(one, other)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 12), (9, 20)])
@pytest.mark.parametrize(
    "named", [[], ["auto_augment", "flip"], ["erasing", "rotation", "flip", "scale", "colour_jitter"]]
)
def test_images_that_are_finished_a_few_at_a_time_are_the_same(monkeypatch, named, size, channels):
    raw = noise(7, channels, 16, 12).byte()
    ops = [AUGMENT.parse(name) for name in named]
    results = []
    for cached in (1, 2 * 4 * 3 * 16 * 12, 1 << 30):
        monkeypatch.setattr("trainable.augment.pipeline.CACHED_BYTES", cached)
        given = raw.clone()
        results.append(pipeline(ops)(given, size, make_draw(7, 16, 12), torch.channels_last))
        assert torch.equal(given, raw)  # whole numbers are only read
    for result in results:
        assert result.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(result, results[-1])
    assert torch.equal(pipeline(ops)(raw.float(), size, make_draw(7, 16, 12)), results[0])


def test_no_images_become_no_images():
    assert pipeline([])(torch.zeros(0, 3, 5, 5), (5, 6), None).shape == (0, 3, 5, 6)


def test_colours_compose_and_are_clipped_once():
    raw = torch.full((512, 3, 2, 2), 200.0)
    ops = [AUGMENT.parse({"name": "brightness", "strength": 0.9})]
    out = pipeline(ops)(raw, (2, 2), make_draw(512, 2, 2)) * 0.25 + 0.5
    factors = ops[0].matrix(make_draw(512, 2, 2), 3)[:, 0, 0]
    expected = (factors * (200 / 255)).clamp(0, 1)
    assert torch.allclose(out[:, 1, 0, 1], expected, atol=1e-5)
    assert (expected == 1.0).any()


def test_two_colour_operations_are_one_after_the_other():
    raw = noise(16, 3, 4, 4) * 0.2 + 100
    first, second = AUGMENT.parse("brightness"), AUGMENT.parse("colour_jitter")
    draw = make_draw(16, 4, 4)
    a, b = first.matrix(draw, 3), second.matrix(draw, 3)
    x = raw.flatten(2) / 255
    x = a[:, :, :3] @ x + a[:, :, 3:]
    x = (b[:, :, :3] @ x + b[:, :, 3:]).clamp(0, 1)
    out = pipeline([second, first])(raw.clone(), (4, 4), make_draw(16, 4, 4))
    assert torch.allclose(out.flatten(2), (x - 0.5) / 0.25, atol=1e-4)


def test_movements_shrink_with_the_image():
    """Trained at half the size, a crop by 4 stored pixels moves by 2."""
    raw = noise(16, 1, 16, 16)
    crop = AUGMENT.parse({"name": "crop", "padding": 4})
    out = pipeline([crop], 1)(raw.clone(), (8, 8), make_draw(16, 16, 16))
    shifts = crop.matrix(make_draw(16, 16, 16))[:, :2, 2]
    small = (resized(raw, (8, 8)) / 255 - 0.5) / 0.25
    chosen = [i for i, (x, y) in enumerate(shifts.int().tolist()) if x % 2 == 0 and y % 2 == 0]
    assert chosen
    for i in chosen:
        x, y = (shifts[i] / 2).int().tolist()
        canvas = torch.zeros(12, 12)
        canvas[2:10, 2:10] = small[i, 0]
        assert torch.allclose(out[i, 0], canvas[2 + y : 10 + y, 2 + x : 10 + x], atol=1e-4)


def test_grey_images_become_as_many_channels_as_wanted():
    raw = noise(3, 1, 5, 5)
    out = pipeline([], 3)(raw.clone(), (5, 5), None)
    assert out.shape == (3, 3, 5, 5)
    assert torch.equal(out[:, 0], out[:, 2])


@settings(max_examples=30, deadline=None)
@given(
    chosen=st.sets(
        st.sampled_from(["flip", "crop", "rotation", "scale", "brightness", "colour_jitter", "erasing"])
    ),
    height=st.integers(4, 24),
    width=st.integers(4, 24),
    size=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    flips=st.sampled_from(["none", "h", "v", "hv", "dihedral"]),
    seed=st.integers(0, 1000),
)
def test_any_set_of_operations_at_any_size_is_finite_and_bounded(chosen, height, width, size, flips, seed):
    ops = [AUGMENT.parse(name) for name in sorted(chosen)]
    out = pipeline(ops)(noise(3, 3, height, width, seed), size, make_draw(3, height, width, flips, seed))
    assert out.shape == (3, 3, *size)
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 2.0 + 1e-4

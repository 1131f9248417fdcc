"""Class distributions of the samplers, worked by hand."""

import numpy as np
import pytest

from trainable.samplers import SAMPLERS

LABELS = np.repeat([0, 1, 3], [16, 4, 1])  # class 2 has no image


def prior(name, epoch=0, num_epochs=5, **fields):
    return SAMPLERS.parse({"name": name, **fields}).build(LABELS, 4, num_epochs, 0).class_distribution(epoch)


def test_balanced_square_root_and_natural():
    assert prior("balanced") == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    assert prior("square_root") == pytest.approx([4 / 7, 2 / 7, 0, 1 / 7])
    assert prior("natural") == pytest.approx([16 / 21, 4 / 21, 0, 1 / 21])


@pytest.mark.parametrize(("strength", "same"), [(0.0, "natural"), (0.5, "square_root"), (1.0, "balanced")])
def test_strength_has_the_others_as_special_cases(strength, same):
    assert prior("strength", strength=strength) == pytest.approx(prior(same))


def test_strength_between_by_hand():
    # n^(1/4) of 16, 4, 1
    powered = np.array([2.0, np.sqrt(2.0), 0.0, 1.0])
    assert prior("strength", strength=0.75) == pytest.approx(powered / powered.sum())


def test_dynamic_goes_from_balanced_to_natural_in_even_steps():
    balanced, natural = prior("balanced"), prior("natural")
    assert prior("dynamic", 0) == pytest.approx(balanced)
    assert prior("dynamic", 1) == pytest.approx(0.75 * balanced + 0.25 * natural)
    assert prior("dynamic", 2) == pytest.approx(0.5 * balanced + 0.5 * natural)
    assert prior("dynamic", 4) == pytest.approx(natural)
    assert prior("dynamic", 2, power=2.0) == pytest.approx(0.75 * balanced + 0.25 * natural)
    assert prior("dynamic", 0, num_epochs=1) == pytest.approx(balanced)


def test_images_of_a_class_are_drawn_alike():
    sampler = SAMPLERS.parse("balanced").build(np.repeat([0, 1], [2, 1998]), 2, 1, 0)
    drawn = np.bincount(sampler.epoch_indices(0), minlength=2000)
    assert drawn[:2].sum() == pytest.approx(1000, abs=5 * np.sqrt(500))
    assert abs(int(drawn[0]) - int(drawn[1])) < 5 * np.sqrt(1000)
    assert drawn[2:].max() < 10

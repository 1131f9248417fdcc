"""Class distributions of the samplers, worked by hand."""

import numpy as np
import pytest
import torch

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


def test_difficulty_draws_the_hardest_image_pressure_times_as_often_as_the_easiest():
    sampler = SAMPLERS.parse({"name": "difficulty", "pressure": 16.0}).build(np.array([0, 0, 1, 1, 1]), 2, 5, 0)
    assert sampler.image_distribution(0) == pytest.approx(np.full(5, 0.2))
    assert sampler.class_distribution(0) == pytest.approx([0.4, 0.6])
    sampler.observe(np.arange(5), torch.tensor([0.1, 5.0, 0.2, 3.0, 0.3]))
    # ranks from the hardest: 4, 0, 3, 1, 2 of 4; weights 16^(-rank/4) = 2^-rank
    assert sampler.image_distribution(1) == pytest.approx(np.array([1, 16, 2, 8, 4]) / 31)
    assert sampler.class_distribution(1) == pytest.approx([17 / 31, 14 / 31])


def test_difficulty_shares_ranks_and_puts_unseen_images_first():
    sampler = SAMPLERS.parse({"name": "difficulty", "pressure": 4.0}).build(np.zeros(3, dtype=int), 1, 5, 0)
    sampler.observe(np.array([0, 1]), torch.tensor([1.0, 1.0]))
    # image 2 has rank 0; the others share (1 + 2)/2 of 2: weights 1, 4^-0.75
    shared = 4**-0.75
    assert sampler.image_distribution(1) == pytest.approx(np.array([shared, shared, 1]) / (1 + 2 * shared))


def test_difficulty_keeps_the_later_of_two_losses_and_ignores_their_scale():
    def ranked(factor):
        sampler = SAMPLERS.parse("difficulty").build(np.zeros(3, dtype=int), 1, 5, 0)
        sampler.observe(np.array([0, 1, 2, 0]), factor * torch.tensor([9.0, 1.0, 2.0, 0.5]))
        return sampler.image_distribution(1)

    assert ranked(1.0).argmin() == 0
    np.testing.assert_array_equal(ranked(1.0), ranked(1000.0))


def test_online_class_balanced_by_hand():
    fields = {"name": "online_class_balanced", "tau": 1.0, "smoothing": 0.5, "floor": 0.2}
    sampler = SAMPLERS.parse(fields).build(LABELS, 4, 5, 0)
    assert sampler.class_distribution(0) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])
    sampler.observe(np.array([0, 1, 16, 20]), torch.tensor([1.0, 3.0, 1.0, 1.0]))
    # mean losses 2, 1, -, 1
    balanced = np.array([1, 1, 0, 1]) / 3
    assert sampler.class_distribution(1) == pytest.approx(0.2 * balanced + 0.8 * np.array([2, 1, 0, 1]) / 4)
    sampler.observe(np.array([0, 16]), torch.tensor([0.0, 3.0]))
    # running means 1, 2, -, 1 (the last class was not drawn and keeps its own)
    assert sampler.class_distribution(2) == pytest.approx(0.2 * balanced + 0.8 * np.array([1, 2, 0, 1]) / 4)


@pytest.mark.parametrize(
    ("name", "fields"), [("online_class_balanced", {"tau": 0.0}), ("difficulty", {"pressure": 1.0})]
)
def test_without_adaptation_losses_change_nothing(name, fields):
    sampler = SAMPLERS.parse({"name": name, **fields}).build(LABELS, 4, 5, 0)
    before = sampler.class_distribution(0)
    sampler.observe(np.arange(21), torch.arange(21.0))
    assert sampler.class_distribution(1) == pytest.approx(before)


def test_losses_of_zero_leave_the_online_sampler_balanced():
    sampler = SAMPLERS.parse("online_class_balanced").build(LABELS, 4, 5, 0)
    sampler.observe(np.arange(21), torch.zeros(21))
    assert sampler.class_distribution(1) == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3])

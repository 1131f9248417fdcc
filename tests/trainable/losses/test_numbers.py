"""Losses against their papers' formulas, worked by hand, and against their limit cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from trainable.losses import LOSSES, LossContext
from trainable.losses.ldam import margins

COUNTS = np.array([90, 9, 1])
NATURAL = LossContext(COUNTS, COUNTS / 100, num_epochs=4)
# softmax of these logits is (1/2, 1/3, 1/6)
LOGITS = torch.log(torch.tensor([[3.0, 2.0, 1.0]])).repeat(3, 1)
TARGETS = torch.tensor([0, 1, 2])


def values(loss, context=NATURAL, logits=LOGITS, targets=TARGETS, **fields):
    return LOSSES.parse({"name": loss, **fields}).build(context)(logits, targets)


def random_batch(seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(20, classes, generator=generator) * 3, torch.arange(20) % classes


def test_cross_entropy_by_hand():
    torch.testing.assert_close(values("cross_entropy"), torch.log(torch.tensor([2.0, 3.0, 6.0])))


def test_label_smoothing_by_hand():
    mean = (math.log(2) + math.log(3) + math.log(6)) / 3
    expected = torch.tensor([0.7 * math.log(k) + 0.3 * mean for k in (2, 3, 6)])
    torch.testing.assert_close(values("label_smoothing", epsilon=0.3), expected)


def test_focal_by_hand():
    expected = torch.tensor([math.log(2) / 4, math.log(3) * 4 / 9, math.log(6) * 25 / 36])
    torch.testing.assert_close(values("focal", gamma=2.0), expected)


def test_class_balanced_by_hand():
    # beta = 1/2 and counts 1, 2, 3: effective numbers 1, 3/2, 7/4; weights 1, 2/3, 4/7, normalised to mean 1
    context = LossContext(np.array([1, 2, 3]), np.array([1, 2, 3]) / 6, num_epochs=4)
    weights = torch.tensor([1.0, 2 / 3, 4 / 7])
    weights *= 3 / weights.sum()
    expected = weights * torch.log(torch.tensor([2.0, 3.0, 6.0]))
    torch.testing.assert_close(values("class_balanced", context, beta=0.5), expected)
    focal = expected * torch.tensor([1 / 2, 2 / 3, 5 / 6])
    torch.testing.assert_close(values("class_balanced", context, beta=0.5, base="focal", gamma=1.0), focal)


def test_logit_adjustment_by_hand():
    # tau = 1: softmax over (3·90, 2·9, 1·1)/289; tau = 2: over (3·8100, 2·81, 1)/24463
    torch.testing.assert_close(values("logit_adjustment"), torch.log(289 / torch.tensor([270.0, 18.0, 1.0])))
    torch.testing.assert_close(
        values("logit_adjustment", tau=2.0), torch.log(24463 / torch.tensor([24300.0, 162.0, 1.0]))
    )


def test_ldam_by_hand():
    # margins 1/(n^(1/4)) scaled to 0.5 at n = 1: counts 81, 16, 1 give 1/6, 1/4, 1/2; s = 2 squares the odds
    context = LossContext(np.array([81, 16, 1]), np.array([81, 16, 1]) / 98, num_epochs=4)
    expected = []
    for own, margin in enumerate((1 / 6, 1 / 4, 1 / 2)):
        odds = np.array([9.0, 4.0, 1.0])
        odds[own] *= math.exp(-2 * margin)
        expected.append(-math.log(odds[own] / odds.sum()))
    torch.testing.assert_close(
        values("ldam", context, max_margin=0.5, scale=2.0), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )


def test_ohem_keeps_the_hardest_share():
    loss = LOSSES.parse({"name": "ohem", "keep": 0.5}).build(NATURAL)
    per_image = torch.tensor([1.0, 4.0, 2.0, 3.0], requires_grad=True)
    reduced = loss.reduce(per_image)
    assert reduced.item() == 3.5
    reduced.backward()
    assert per_image.grad.tolist() == [0.0, 0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    ("keep", "size", "kept"), [(0.7, 10, 7), (0.3, 10, 3), (0.01, 5, 1), (1.0, 3, 3), (0.5, 3, 2)]
)
def test_ohem_rounds_up_to_whole_images(keep, size, kept):
    loss = LOSSES.parse({"name": "ohem", "keep": keep}).build(NATURAL)
    per_image = torch.arange(size, dtype=torch.float32)
    assert loss.reduce(per_image).item() == per_image[-kept:].mean().item()


@pytest.mark.parametrize(
    ("loss", "fields"),
    [
        ("label_smoothing", {"epsilon": 0.0}),
        ("focal", {"gamma": 0.0}),
        ("class_balanced", {"beta": 0.0}),
        ("class_balanced", {"beta": 0.0, "base": "focal", "gamma": 0.0}),
        ("logit_adjustment", {"tau": 0.0}),
        ("ldam", {"max_margin": 0.0, "scale": 1.0}),
        ("ohem", {"keep": 1.0}),
    ],
)
@given(seed=st.integers(0, 2**31))
def test_limit_case_is_cross_entropy(loss, fields, seed):
    logits, targets = random_batch(seed)
    built = LOSSES.parse({"name": loss, **fields}).build(NATURAL)
    expected = cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(built(logits, targets), expected)
    torch.testing.assert_close(built.reduce(built(logits, targets)), expected.mean())


def test_class_balanced_near_beta_one_is_inverse_frequency():
    inverse = torch.tensor([1 / 90, 1 / 9, 1.0])
    inverse *= 3 / inverse.sum()
    expected = inverse * torch.log(torch.tensor([2.0, 3.0, 6.0]))
    torch.testing.assert_close(values("class_balanced", beta=1 - 1e-12), expected)


@given(seed=st.integers(0, 2**31))
def test_balanced_softmax_is_logit_adjustment_of_strength_one(seed):
    logits, targets = random_batch(seed)
    torch.testing.assert_close(
        values("balanced_softmax", logits=logits, targets=targets),
        values("logit_adjustment", logits=logits, targets=targets, tau=1.0),
    )


def test_balanced_softmax_is_the_paper_s_over_counts():
    weighted = torch.tensor(COUNTS) * LOGITS.exp()
    expected = -torch.log(weighted / weighted.sum(dim=1, keepdim=True)).diagonal().float()
    torch.testing.assert_close(values("balanced_softmax"), expected)


@pytest.mark.parametrize("loss", ["balanced_softmax", "logit_adjustment"])
def test_prior_is_the_sampler_s_and_follows_it(loss):
    balanced = np.full(3, 1 / 3)
    context = LossContext(COUNTS, balanced, num_epochs=4)
    built = LOSSES.parse(loss).build(context)
    torch.testing.assert_close(built(LOGITS, TARGETS), values("cross_entropy"))
    built.start_epoch(1)
    torch.testing.assert_close(built(LOGITS, TARGETS), values("cross_entropy"))
    built.start_epoch(2, COUNTS / 100)
    torch.testing.assert_close(built(LOGITS, TARGETS), values(loss))


def test_the_adjusted_optimum_ignores_the_prior():
    # Under the training distribution p(y|x) ∝ π_y p(x|y), log p(x|y) minimises the expected adjusted loss.
    likelihood = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    prior = torch.tensor(COUNTS / 100)
    posterior = prior * likelihood / (prior * likelihood).sum()
    logits = likelihood.log().float().repeat(3, 1).requires_grad_()
    per_class = LOSSES.parse("balanced_softmax").build(NATURAL)(logits, TARGETS)
    (per_class * posterior.float()).sum().backward()
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(3), atol=1e-6, rtol=0)


def test_a_class_without_images_has_a_finite_offset_and_margin():
    counts = np.array([9, 1, 0])
    context = LossContext(counts, counts / 10, num_epochs=4)
    # half an image of ten: prior 1/20
    weighted = torch.tensor([3 * 0.9, 2 * 0.1, 1 * 0.05])
    torch.testing.assert_close(values("balanced_softmax", context), -torch.log(weighted / weighted.sum()))
    assert margins(counts, 0.5).tolist() == pytest.approx([0.5 * 9**-0.25, 0.5, 0.5])
    assert values("class_balanced", context)[2].item() == 0.0


def test_focal_slope_is_finite_where_the_target_is_certain():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    values("focal", logits=logits, targets=torch.tensor([0]), gamma=0.5).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_class_balanced_asks_for_gamma_only_with_the_focal_base():
    import optuna

    loss = LOSSES["class_balanced"]
    plain = optuna.trial.FixedTrial({"loss.class_balanced.base": "ce", "loss.class_balanced.beta": 0.99})
    assert loss.suggest(plain, "loss.class_balanced") == loss(base="ce", beta=0.99)
    asked = {
        "loss.class_balanced.base": "focal",
        "loss.class_balanced.beta": 0.99,
        "loss.class_balanced.gamma": 1.5,
    }
    focal = optuna.trial.FixedTrial(asked)
    assert loss.suggest(focal, "loss.class_balanced") == loss(base="focal", beta=0.99, gamma=1.5)

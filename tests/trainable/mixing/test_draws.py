"""The distributions that mixing draws from, and its pictures."""

import numpy as np
import pytest
import torch
from scipy import stats

from analysis.errors import UsageError
from trainable.mixing import MIXING, Mixed
from trainable.mixing._base import Pairs

NUM = 20_000


def many(name: str, size: int = NUM, height: int = 8, width: int = 8, **fields: object) -> Mixed:
    images = torch.arange(float(size)).view(-1, 1, 1, 1).expand(size, 1, height, width).contiguous()
    generator = torch.Generator().manual_seed(0)
    return MIXING[name](per_sample=True, **fields).apply(images, torch.arange(size), generator)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0])
def test_shares_are_beta(alpha):
    image = torch.zeros(NUM, 1, 1, 1)
    pairs = Pairs(image, torch.zeros(NUM), torch.Generator().manual_seed(0), per_sample=True)
    draws = pairs.beta(alpha)
    assert torch.isfinite(draws).all()
    # Single precision rounds draws near 1 to it; Kolmogorov and Smirnov see that only below alpha 0.1.
    rounded = np.float32(stats.beta(alpha, alpha).rvs(NUM, random_state=1))
    assert stats.ks_2samp(draws.numpy(), rounded).pvalue > 1e-3


def test_mixup_mixes_as_many_as_it_is_told():
    result = many("mixup", p=0.3, alpha=1.0)
    assert (result.share < 1).float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert result.share[result.share < 1].mean().item() == pytest.approx(0.5, abs=0.02)


def test_one_draw_gives_the_recipes_shares():
    result = many("mixup_or_cutmix", height=32, width=32, size=4000, mixup_alpha=1.0)
    plain = torch.arange(4000.0).view(-1, 1, 1, 1)
    other = result.partners.view(-1, 1, 1, 1)
    pure = ((result.images == plain) | (result.images == other)).flatten(1).all(1)
    is_mixed = result.share < 1
    mixup, cutmix = is_mixed & ~pure, is_mixed & pure
    # A box that is empty after rounding counts as neither: about one in a hundred.
    assert mixup.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert cutmix.float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_of_the_one_draw(p):
    result = many("mixup_or_cutmix", p_mixup=0.0, p_cutmix=p)
    assert bool((result.share < 1).any()) == (p == 1.0)
    assert bool((many("mixup_or_cutmix", p_mixup=1.0, p_cutmix=0.0, mixup_alpha=8.0).share < 1).all())


def test_more_than_certain_is_refused():
    with pytest.raises(UsageError, match=r"p_mixup \+ p_cutmix must be at most 1, got 0.6 \+ 0.5"):
        MIXING.parse({"name": "mixup_or_cutmix", "p_mixup": 0.6, "p_cutmix": 0.5})


def test_a_cutmix_box_is_a_rectangle_and_its_area_is_exact():
    result = many("cutmix", size=200, height=11, width=17, p=1.0)
    own = torch.arange(200.0).view(-1, 1, 1, 1)
    for index in range(200):
        taken = (result.images != own)[index, 0]
        if result.partners[index] == index:
            continue
        assert result.share[index].item() == pytest.approx(1 - taken.sum().item() / (11 * 17), abs=1e-6)
        rows, columns = taken.any(1), taken.any(0)
        assert torch.equal(taken, rows[:, None] & columns[None, :])
        assert int((rows.int().diff() != 0).sum()) <= 2


def test_the_area_of_a_cutmix_box_before_clipping_is_beta_s():
    # Beta(100, 100) is all but 1/2: boxes of sqrt(1/2) of each side.
    result = many("cutmix", size=2000, height=64, width=64, alpha=100.0, p=1.0)
    largest = 1 - result.share.min().item()
    assert largest == pytest.approx(0.5, abs=0.12)
    # A centre anywhere cuts each side to 1 − side/4 of itself on average.
    side = np.sqrt(0.5)
    assert 1 - result.share.mean().item() == pytest.approx((side * (1 - side / 4)) ** 2, abs=0.02)


def test_per_batch_there_is_one_share():
    images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in ("mixup", "cutmix", "mixup_or_cutmix"):
        for seed in range(5):
            share = MIXING[name]().apply(images, torch.arange(32), torch.Generator().manual_seed(seed)).share
            assert (share == share[0]).all()
            assert share.is_contiguous()


def test_every_image_is_somebody_s_partner():
    result = many("mixup", size=50, p=1.0, alpha=8.0)
    assert sorted(result.partners.tolist()) == list(range(50))

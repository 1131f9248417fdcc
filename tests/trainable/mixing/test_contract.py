"""What every way of mixing keeps, asked of each that is enrolled."""

import pickle

import optuna
import pytest
import torch
from pydantic import ValidationError

from trainable.config import TrialConfig
from trainable.mixing import MIXING, Mixed, Mixing

SETTINGS = [
    (name, {"per_sample": per_sample} if "per_sample" in MIXING[name].model_fields else {})
    for name in MIXING.names()
    for per_sample in (False, True)
]
settings = pytest.mark.parametrize(("name", "fields"), SETTINGS)
names = pytest.mark.parametrize("name", MIXING.names())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int = 16, height: int = 12, width: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Image i is i + 1 everywhere, so that each pixel names the image that it came from."""
    images = torch.arange(1.0, size + 1).view(-1, 1, 1, 1).expand(size, 3, height, width).contiguous()
    return images, torch.arange(size)


def mixed(config: Mixing, seed: int) -> Mixed:
    return config.apply(*batch(), seeded(seed))


def test_every_way_of_the_list_is_enrolled():
    assert set(MIXING.names()) >= {"none", "mixup", "cutmix", "mixup_or_cutmix"}


@settings
@pytest.mark.parametrize("seed", range(8))
def test_the_shares_are_those_of_the_pixels(name, fields, seed):
    result = mixed(MIXING[name](**fields), seed)
    assert result.images.shape == (16, 3, 12, 20)
    assert result.share.shape == result.partners.shape == (16,)
    assert result.share.dtype == torch.float32
    assert ((result.share >= 0) & (result.share <= 1)).all()
    expected = result.share * (result.targets + 1) + (1 - result.share) * (result.partners + 1)
    torch.testing.assert_close(result.images.mean(dim=(1, 2, 3)), expected, rtol=1e-4, atol=1e-4)
    unmixed = result.share == 1
    assert torch.equal(result.partners[unmixed], result.targets[unmixed])
    assert torch.equal(result.images[unmixed], batch()[0][unmixed])


@settings
def test_only_the_generator_decides(name, fields):
    config = MIXING[name](**fields)
    state = torch.random.get_rng_state()
    first = mixed(config, 3)
    torch.manual_seed(99)
    second = mixed(config, 3)
    assert first.views is None
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    torch.random.set_rng_state(state)
    mixed(config, 4)
    assert torch.equal(state, torch.random.get_rng_state())


@settings
def test_images_and_targets_that_were_given_are_left_alone(name, fields):
    images, targets = batch()
    MIXING[name](**fields).apply(images, targets, seeded(0))
    assert torch.equal(images, batch()[0])
    assert torch.equal(targets, batch()[1])


@settings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_memory_layout_are_kept(name, fields, dtype):
    images, targets = batch()
    images = images.to(dtype, memory_format=torch.channels_last)
    result = MIXING[name](**fields).apply(images, targets, seeded(0))
    assert result.images.dtype == dtype
    assert result.images.is_contiguous(memory_format=torch.channels_last)


@settings
def test_a_batch_of_one_image_is_its_own_partner(name, fields):
    images, targets = batch(size=1)
    result = MIXING[name](**fields).apply(images, targets, seeded(0))
    torch.testing.assert_close(result.images, images)
    assert torch.equal(result.partners, targets)


@names
def test_config_pickles_is_frozen_and_survives_a_trial_config_in_yaml(name):
    for seed in range(10):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        drawn = MIXING[name].suggest(study.ask(), f"mixing.{name}")
        assert pickle.loads(pickle.dumps(drawn)) == drawn
        config = TrialConfig(mixing=drawn)
        assert TrialConfig.from_yaml(config.to_yaml()) == config
    with pytest.raises(ValidationError):
        drawn.name = "other"

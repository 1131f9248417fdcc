"""What every augmentation owes: searched within its law, read back, frozen, pickled, finite, repeatable."""

from __future__ import annotations

import pickle

import optuna
import pytest
import torch
import yaml
from pydantic import ValidationError

from tests.trainable.augment.pictures import make_draw, noise, pipeline
from trainable.augment import AUGMENT, AugmentOp, RareBoost
from trainable.config import TrialConfig

every_op = pytest.mark.parametrize("member", list(AUGMENT), ids=AUGMENT.names())
SHAPES = [(5, 3, 32, 32), (3, 1, 8, 8), (4, 3, 12, 17), (2, 1, 60, 80)]


@every_op
def test_suggest_config_yaml_config(member: type[AugmentOp]):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        op = member.suggest(study.ask(), f"augment.{member.__name__}")
        config = TrialConfig(augment=(op,))
        assert TrialConfig.from_yaml(config.to_yaml()) == config
        assert AUGMENT.parse(yaml.safe_load(yaml.safe_dump(op.model_dump(mode="json")))) == op


@every_op
def test_pickle_frozen_and_documented(member: type[AugmentOp]):
    op = member()
    assert pickle.loads(pickle.dumps(op)) == op
    with pytest.raises(ValidationError, match="frozen"):
        op.name = "other"
    assert member.__doc__
    assert not op.inactive


@every_op
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_changes_images_and_stays_finite_and_in_range(member: type[AugmentOp], shape: tuple[int, ...]):
    draw = make_draw(shape[0], shape[2], shape[3], seed=1)
    work = pipeline([member()], shape[1])
    out = work(noise(*shape), shape[2:], draw)
    assert out.shape == shape
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    assert out.abs().max() <= 2.0 + 1e-5


@every_op
def test_draws_differ_within_a_batch_and_between_seeds_and_repeat_for_one(member: type[AugmentOp]):
    one = noise(1, 3, 32, 32).expand(64, -1, -1, -1)

    def run(seed: int) -> torch.Tensor:
        return pipeline([member()])(one.clone(), (32, 32), make_draw(64, 32, 32, seed=seed))

    first = run(1)
    assert len(torch.unique(first.flatten(1), dim=0)) > 1
    assert torch.equal(first, run(1))
    assert not torch.equal(first, run(2))


@every_op
def test_global_randomness_is_left_alone(member: type[AugmentOp]):
    before = torch.get_rng_state()
    pipeline([member()])(noise(8, 3, 16, 16), (16, 16), make_draw(8, 16, 16))
    assert torch.equal(before, torch.get_rng_state())


boosted_ops = [member for member in AUGMENT if issubclass(member, RareBoost)]


@pytest.mark.parametrize("member", boosted_ops, ids=[m.model_fields["name"].default for m in boosted_ops])
def test_rare_boost_moves_rare_classes_further_and_spares_the_largest(member: type[AugmentOp]):
    """Mean change over a smooth picture, same draws: rare classes change more, the largest as without."""
    smooth = torch.linspace(60, 190, 32).expand(1, 3, 32, 32) + torch.tensor([0.0, 10.0, 20.0]).view(1, 3, 1, 1)
    many = smooth.repeat(512, 1, 1, 1)
    plain = pipeline([])(many.clone(), (32, 32), None)

    def change(boost: float, rarity: float) -> float:
        work = pipeline([member(rare_boost=boost)])
        out = work(many.clone(), (32, 32), make_draw(512, 32, 32, rarity=rarity))
        return float((out - plain).abs().mean())

    assert change(1.5, 0.0) == change(0.0, 0.0) == change(0.0, 1.0)
    assert change(1.5, 1.0) > 1.05 * change(1.5, 0.0)

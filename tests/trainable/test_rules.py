"""Which combinations of components are refused, and what lifts a refusal."""

from typing import Literal

import pytest

from analysis.errors import UsageError
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.losses import LOSSES
from trainable.mixing import Mixed, Mixing
from trainable.rules import known_rules

WEIGHTS_DEFERRED = {"name": "effective_number", "defer": 0.8}


def config(loss="cross_entropy", sampler="natural", class_weights="none", **rest):
    return validated(TrialConfig, {"loss": loss, "sampler": sampler, "class_weights": class_weights, **rest})


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"loss": "balanced_softmax"},
        {"sampler": "balanced"},
        {"class_weights": "inverse_frequency"},
        {"loss": "class_balanced"},
        {"loss": "focal", "class_weights": "effective_number"},
        {"loss": "focal", "sampler": "dynamic"},
        {"loss": "label_smoothing", "class_weights": WEIGHTS_DEFERRED},
        {"loss": "ldam"},
        {"loss": "ldam", "class_weights": WEIGHTS_DEFERRED},
    ],
)
def test_one_correction_is_fine(parts):
    config(**parts)


@pytest.mark.parametrize(
    ("parts", "pairs"),
    [
        ({"sampler": "balanced", "class_weights": "inverse_frequency"}, ["balanced_sampler+inverse_frequency"]),
        ({"sampler": "balanced", "class_weights": WEIGHTS_DEFERRED}, ["balanced_sampler+effective_number"]),
        ({"loss": "balanced_softmax", "sampler": "square_root"}, ["balanced_softmax+square_root_sampler"]),
        ({"loss": "logit_adjustment", "class_weights": "inverse_sqrt"}, ["logit_adjustment+inverse_sqrt"]),
        (
            {"loss": "balanced_softmax", "class_weights": WEIGHTS_DEFERRED},
            ["balanced_softmax+effective_number"],
        ),
        ({"loss": "ldam", "class_weights": "effective_number"}, ["ldam+effective_number"]),
        ({"loss": "class_balanced", "sampler": "dynamic"}, ["class_balanced+dynamic_sampler"]),
        (
            {"loss": "ldam", "sampler": "balanced", "class_weights": WEIGHTS_DEFERRED},
            ["ldam+balanced_sampler", "balanced_sampler+effective_number"],
        ),
    ],
)
def test_two_corrections_have_to_be_allowed_by_name(parts, pairs):
    with pytest.raises(UsageError, match="corrected once") as caught:
        config(**parts)
    assert pairs[0] in caught.value.remedy
    assert config(**parts, allow=pairs).allow == tuple(pairs)
    for pair in pairs:
        with pytest.raises(UsageError):
            config(**parts, allow=[other for other in pairs if other != pair])


@pytest.mark.parametrize("loss", ["class_balanced", "ohem"])
def test_class_weights_on_a_loss_that_refuses_them_cannot_be_allowed(loss):
    with pytest.raises(UsageError, match=f"loss {loss} takes no class weights, got class_weights inverse_sqrt"):
        config(loss=loss, class_weights="inverse_sqrt")


def test_an_allow_that_names_no_pair_is_refused_with_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean 'balanced_sampler\\+inverse_frequency'"):
        config(allow=["balanced_samplers+inverse_frequency"])


def test_known_rules_are_exactly_the_pairs_of_corrections():
    known = known_rules()
    assert "balanced_sampler+inverse_frequency" in known
    assert "ldam+balanced_sampler" in known
    assert len(known) == len(set(known))
    assert "class_balanced+inverse_frequency" not in known  # impossible, whatever is allowed
    assert not any(part in rule.split("+") for rule in known for part in ("cross_entropy", "none", "focal"))


class HalfAndHalf(Mixing):
    """Every image blended with its neighbour."""

    name: Literal["half_and_half"] = "half_and_half"

    def apply(self, images, targets, generator):
        partners = targets.roll(1)
        return Mixed((images + images.roll(1, 0)) / 2, targets, partners, (targets >= 0) / 2)


@pytest.mark.parametrize("loss", LOSSES.names())
def test_mixing_is_refused_exactly_where_the_loss_refuses_mixed_targets(loss):
    if LOSSES[loss].accepts_mixed_targets:
        config(loss=loss, mixing=HalfAndHalf())
    else:
        with pytest.raises(UsageError, match=f"loss {loss} takes no mixed targets, got mixing half_and_half"):
            config(loss=loss, mixing=HalfAndHalf())


def test_only_mining_refuses_mixed_targets():
    assert [loss for loss in LOSSES.names() if not LOSSES[loss].accepts_mixed_targets] == ["ohem"]

"""What is known of a network before it is built is what it does, not what it names."""

from __future__ import annotations

import pytest

from analysis.errors import UsageError
from trainable.backbones.anatomy import anatomy
from trainable.component import validated
from trainable.config import TrialConfig


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", 4),  # maps
        ("vit_tiny_patch16_224", 3),  # tokens
        ("dla34", 5),  # a classifier whose outputs are flattened
        ("coat_tiny", 0),  # its stages are lists of blocks, never called themselves
        ("pit_ti_224", 0),  # its stages return maps and class tokens
        ("mvitv2_tiny", 0),  # it names modules that it does not have
        ("hrnet_w18_small", 0),  # its stages return a map for each resolution
    ],
)
def test_stages_count_where_their_features_can_be_read(name: str, stages: int) -> None:
    assert anatomy(name).num_stages == stages
    assert anatomy(name).has_classifier


@pytest.mark.parametrize("name", ["coat_tiny", "pit_ti_224", "mvitv2_tiny", "hrnet_w18_small", "volo_d1_224"])
def test_fusion_is_refused_where_stages_or_classifier_cannot_be_relied_upon(name: str) -> None:
    with pytest.raises(UsageError, match=rf"backbone\.fusion must be none for {name}"):
        validated(TrialConfig, {"backbone": {"name": name, "fusion": "concat"}})


def test_supervision_of_stages_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(UsageError, match="stages before the last, 0 in coat_tiny, got 1"):
        validated(
            TrialConfig,
            {"backbone": "coat_tiny", "deep_supervision": {"name": "stages", "auxiliary": 1}},
        )


@pytest.mark.parametrize("change", [{"posthoc": {"name": "tau_norm"}}, {"contrastive": {"name": "supervised"}}])
def test_a_classifier_that_is_not_the_last_word_is_refused(change: dict[str, dict[str, str]]) -> None:
    """VOLO adds half of what an auxiliary head says: weights of one layer could not carry a correction."""
    assert not anatomy("volo_d1_224").has_classifier
    with pytest.raises(UsageError, match="which volo_d1_224 has not"):
        validated(TrialConfig, {"backbone": "volo_d1_224", **change})


def test_a_network_for_images_of_one_size_is_looked_at_in_that_size() -> None:
    found = anatomy("torchvision:vit_b_16")
    assert found.has_classifier
    assert not found.any_size
    with pytest.raises(UsageError, match="no_such_network"):
        anatomy("no_such_network")

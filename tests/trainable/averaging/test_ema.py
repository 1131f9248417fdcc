"""The moving average by hand."""

import pytest
import torch
from torch import nn

from trainable.averaging import AVERAGING


def follow(values: list[float], **fields: object) -> float:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, values[0])
    averager = AVERAGING["ema"](**fields).build(model, 1, 1)
    for value in values[1:]:
        nn.init.constant_(model.weight, value)
        averager.after_step()
    return averager.evaluated().weight.item()


def test_two_steps_by_hand():
    # 1 → 0.9·1 + 0.1·2 = 1.1 → 0.9·1.1 + 0.1·4 = 1.39.
    assert follow([1.0, 2.0, 4.0], decay=0.9, warmup=False) == pytest.approx(1.39)


def test_two_steps_of_warm_up_by_hand():
    # Decays 2/11 and 3/12.
    first = 2 / 11 * 1 + 9 / 11 * 2
    assert follow([1.0, 2.0, 4.0], decay=0.9, warmup=True) == pytest.approx(0.25 * first + 0.75 * 4)


def test_warm_up_ends_at_the_decay():
    assert follow([0.0] * 200 + [1.0], decay=0.5, warmup=True) == pytest.approx(0.5)


def test_batch_norm_statistics_are_averaged_and_counts_copied():
    model = nn.BatchNorm1d(1)
    averager = AVERAGING["ema"](decay=0.9, warmup=False).build(model, 1, 1)
    model(torch.tensor([[1.0], [3.0]]))
    averager.after_step()
    average = averager.evaluated()
    # The model's own mean moved to 0.1·2; its average goes a tenth of that way.
    assert average.running_mean.item() == pytest.approx(0.02)
    assert average.num_batches_tracked.item() == 1

"""Stochastic weight averaging by hand and against torch's own parts."""

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.optim.swa_utils import SWALR, update_bn

from trainable.averaging import AVERAGING
from trainable.averaging.swa import renew_batch_norm


def no_batches() -> list[torch.Tensor]:
    return []


def test_the_average_is_equal_over_every_second_epoch_from_the_start_on():
    model = nn.Linear(1, 1, bias=False)
    averager = AVERAGING["swa"](start=0.25, every=2).build(model, num_epochs=8, steps_per_epoch=3)
    seen = []
    for epoch in range(8):
        nn.init.constant_(model.weight, 2.0**epoch)
        averager.after_step()
        averager.after_epoch(epoch, no_batches)
        seen.append(averager.evaluated().weight.item())
    # The plain model before epoch 2; then epochs 2, 4 and 6.
    assert seen == pytest.approx([1, 2, 4, 4, (4 + 16) / 2, (4 + 16) / 2, (4 + 16 + 64) / 3, (4 + 16 + 64) / 3])


def test_a_short_trial_averages_at_least_its_last_epoch():
    model = nn.Linear(1, 1)
    averager = AVERAGING["swa"](start=0.9).build(model, num_epochs=1, steps_per_epoch=3)
    averager.after_epoch(0, no_batches)
    assert averager.evaluated() is not model


@pytest.mark.parametrize("anneal_epochs", [0, 1, 4])
def test_the_learning_rate_at_epochs_is_torch_s_swalr(anneal_epochs):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.2)
    scheduler = SWALR(optimizer, swa_lr=0.05, anneal_epochs=anneal_epochs)
    theirs = []
    for _ in range(8):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    config = AVERAGING["swa"](start=0.5, lr_factor=0.25, anneal_epochs=anneal_epochs)
    averager = config.build(nn.Linear(1, 1), num_epochs=16, steps_per_epoch=10)
    ours = [averager.adjust_lr(8 + epoch, 0.0, scheduled=0.2, peak=0.2) for epoch in range(8)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_schedule_is_left_alone_before_and_annealed_within_epochs():
    averager = AVERAGING["swa"](start=0.5, lr_factor=0.1, anneal_epochs=2).build(nn.Linear(1, 1), 4, 10)
    assert averager.adjust_lr(1, 0.9, scheduled=0.3, peak=1.0) == 0.3
    assert averager.adjust_lr(3, 0.0, scheduled=0.3, peak=1.0) == pytest.approx(0.2)
    assert averager.adjust_lr(2, 0.5, 0.3, 1.0) > averager.adjust_lr(2, 0.6, 0.3, 1.0)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, BatchNormAct2d])
def test_batch_norm_is_renewed_as_torch_does(norm):
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.Conv2d(4, 4, 3), norm(4)).eval()
    theirs = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.Conv2d(4, 4, 3), norm(4)).eval()
    theirs.load_state_dict(ours.state_dict())
    batches = [torch.randn(5, 3, 8, 8) for _ in range(3)]
    renew_batch_norm(ours, batches)
    update_bn(batches, theirs)
    expected = theirs.state_dict()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=0)
    assert not any(module.training for module in ours.modules())
    assert ours[1].momentum == 0.1


def test_dropout_is_off_while_statistics_are_renewed():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1))
    renew_batch_norm(model, [torch.tensor([[1.0], [3.0]])])
    assert model[1].running_mean.item() == 2.0
    assert model.training
    assert model[0].training

"""Fused steps on turned weights are torch's own, to the bit, and leave everything as it was laid out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from trainable.optimizers.flat import FEWEST, FlatAdam, FlatAdamW, FlatSGD, flattened

KINDS = [
    (torch.optim.SGD, FlatSGD, {"momentum": 0.9, "nesterov": True}),
    (torch.optim.SGD, FlatSGD, {}),
    (torch.optim.Adam, FlatAdam, {}),
    (torch.optim.AdamW, FlatAdamW, {}),
]
LARGE = (128, 96, 3, 3)


def weights() -> list[Tensor]:
    """Large and small weights of several kinds, with gradients; the first alone is worth turning."""
    torch.manual_seed(0)
    shapes = [LARGE, (8, 4, 3, 3), (400, 400, 1, 1), (400, 300), (7,), LARGE]
    found = [torch.randn(shape) for shape in shapes]
    found[:3] = [weight.contiguous(memory_format=torch.channels_last) for weight in found[:3]]
    for weight in found:
        weight.requires_grad_()
    renew(found)
    return found


def renew(found: list[Tensor]) -> None:
    """Give each weight a gradient that is laid out as it is."""
    for weight in found:
        weight.grad = torch.randn_like(weight)


@pytest.mark.parametrize(("torchs", "flat", "fields"), KINDS)
def test_steps_are_torchs_to_the_bit(torchs, flat, fields):
    one, two = weights(), weights()
    fields = {"lr": 0.1, "weight_decay": 0.01, "fused": True, **fields}
    theirs, ours = torchs(one, **fields), flat(two, **fields)
    for number in range(4):
        for found, optimizer in ((one, theirs), (two, ours)):
            torch.manual_seed(number)
            renew(found)
            optimizer.step()
    for mine, other in zip(two, one, strict=True):
        assert torch.equal(mine, other)
        assert mine.stride() == other.stride()
        assert mine.grad is not None
        assert mine.grad.stride() == mine.stride()
        for name, value in theirs.state[other].items():
            kept = ours.state[mine][name]
            assert torch.equal(kept, value)
            assert kept.stride() == value.stride()
    theirs_kept, ours_kept = copy.deepcopy(theirs.state_dict()), copy.deepcopy(ours.state_dict())
    theirs.load_state_dict(ours_kept)
    ours.load_state_dict(theirs_kept)
    theirs.step(), ours.step()
    assert all(torch.equal(mine, other) for mine, other in zip(two, one, strict=True))


def test_only_large_weights_that_are_channels_last_throughout_are_turned():
    large, *others = weights()
    optimizer = FlatSGD([large, *others], lr=0.1, momentum=0.9, fused=True)
    assert large.numel() >= FEWEST > others[0].numel()
    before = [weight.shape for weight in others]
    with flattened(optimizer):
        assert large.shape == (128, 3, 3, 96)
        assert large.is_contiguous()
        assert [weight.shape for weight in others] == before
    large.grad = large.grad.contiguous()
    with flattened(optimizer):
        assert large.shape == LARGE
    large.grad = None
    with flattened(optimizer):
        assert large.shape == LARGE
    renew([large])
    optimizer.state[large]["momentum_buffer"] = torch.zeros(LARGE)
    with flattened(optimizer):
        assert large.shape == LARGE


def test_a_step_that_fails_leaves_weights_as_they_were():
    large = weights()[0]
    optimizer = FlatSGD([large], lr=0.1, fused=True)
    before, place = large.detach().clone(), large.data_ptr()
    with pytest.raises(RuntimeError, match="stop"), flattened(optimizer):
        raise RuntimeError("stop")
    assert torch.equal(large, before)
    assert large.data_ptr() == place
    assert large.grad is not None
    assert large.grad.shape == LARGE


def test_a_closure_sees_weights_as_they_are_and_its_loss_comes_back():
    large = weights()[0]
    optimizer = FlatSGD([large], lr=0.1, fused=True)

    def closure() -> Tensor:
        assert large.shape == LARGE
        optimizer.zero_grad()
        loss = large.square().sum()
        loss.backward()
        return loss

    before = large.detach().clone()
    assert optimizer.step(closure) == before.square().sum()
    assert torch.allclose(large, 0.8 * before)

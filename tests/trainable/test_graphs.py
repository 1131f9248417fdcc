"""What of recorded passes needs no GPU: gradients that share memory are told apart."""

from __future__ import annotations

import torch
from torch import nn

from trainable.graphs import owned


def test_parameters_that_are_added_to_each_other_get_a_gradient_each() -> None:
    one, two = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    found = torch.autograd.grad((one + two).square().sum(), (one, two))
    assert found[0].data_ptr() == found[1].data_ptr(), "else there is nothing to tell apart"
    first, second = owned(found, (one, two))
    assert first is not None
    assert second is not None
    first.mul_(0.0)
    assert torch.equal(second, torch.full((3, 4), 4.0))


def test_gradients_lie_as_their_parameters_do() -> None:
    weight = nn.Parameter(torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
    unused = nn.Parameter(torch.ones(2))
    gradient = torch.arange(120.0).view(2, 3, 4, 5)
    laid, nothing = owned((gradient, None), (weight, unused))
    assert nothing is None
    assert laid is not None
    assert laid.stride() == weight.stride() != gradient.stride()
    assert torch.equal(laid, gradient)

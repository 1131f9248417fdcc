"""What of recorded passes needs no GPU: gradients that share memory are told apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._utils import _get_device_index

from trainable.graphs import free_memory, owned


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


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_memory_is_what_a_packed_trial_may_take(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fraction(device: int | torch.device | None = None) -> float:
        return 0.5 if device is None else _get_device_index(device, optional=False) * 0.0 + 0.5

    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", fraction, raising=False)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 40)
    assert free_memory(torch.device(name)) == 1000 * 0.5 - 40

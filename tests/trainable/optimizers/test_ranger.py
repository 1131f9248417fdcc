"""Ranger against Lookahead by hand and torch's own RAdam."""

import torch
from torch import nn

from trainable.optimizers import OPTIMIZERS


def test_lookahead_pulls_back_halfway_every_k_steps_to_where_it_started():
    weight = nn.Parameter(torch.tensor([1.0]))
    fast = nn.Parameter(torch.tensor([1.0]))
    group = {"params": [weight], "weight_decay": 0.0}
    ranger = OPTIMIZERS["ranger"](lr=0.1, lookahead_steps=3, lookahead_alpha=0.5).build([group])
    without = OPTIMIZERS["ranger"](lr=0.1, lookahead_steps=1000).build(
        [{"params": [fast], "weight_decay": 0.0}]
    )
    for _ in range(3):
        for p, optimizer in ((weight, ranger), (fast, without)):
            p.grad = torch.ones_like(p)
            optimizer.step()
    # Slow weights start at 1: 1 + 0.5 (fast - 1).
    torch.testing.assert_close(weight.detach(), 1.0 + 0.5 * (fast.detach() - 1.0))


def test_without_lookahead_and_centralization_it_is_radam():
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(4, generator=generator), torch.randn(20, 4, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    config = OPTIMIZERS["ranger"](lr=0.01, weight_decay=0.1, lookahead_steps=1000, centralize=False, eps=1e-8)
    ranger = config.build([{"params": [ours], "weight_decay": 0.1}])
    radam = torch.optim.RAdam(
        [theirs], lr=0.01, betas=(0.95, 0.999), weight_decay=0.1, decoupled_weight_decay=True
    )
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        ranger.step()
        radam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_first_step_goes_downhill():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = OPTIMIZERS["ranger"](lr=0.1).build([{"params": [weight], "weight_decay": 0.0}])
    weight.grad = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    optimizer.step()
    assert ((weight - 1.0).sign() == -weight.grad.sign()).all()

"""A training that is saved, loaded and continued equals one that never stopped, bit for bit."""

import io

import pytest
import torch
from torch import nn

from tests.trainable.optimizers.test_contract import tiny_net, train_step
from trainable.averaging import AVERAGING
from trainable.component import Component
from trainable.optimizers import OPTIMIZERS, parameter_groups, set_lr
from trainable.registry import Registry
from trainable.schedules import SCHEDULES

STEPS_PER_EPOCH = 4
METRICS = (0.3, 0.3, 0.2, 0.1)
SHORT_ENOUGH_TO_MATTER = {
    "plateau": {"patience": 0},
    "step": {"every_epochs": 1},
    "swa": {"start": 0.0},
    "ranger": {"lookahead_steps": 3},
}


class Training:
    """One optimizer, schedule and average on a small net, stepped as the loop does."""

    def __init__(self, optimizer: str, schedule: str, averaging: str) -> None:
        self.model = tiny_net()
        self.config = component(OPTIMIZERS, optimizer)
        groups = parameter_groups(self.model, self.config.weight_decay)
        self.optimizer = self.config.build(groups)
        self.schedule = component(SCHEDULES, schedule, warmup_epochs=0.5).build(len(METRICS), STEPS_PER_EPOCH)
        self.averager = component(AVERAGING, averaging).build(self.model, len(METRICS), STEPS_PER_EPOCH)

    def epoch(self, epoch: int) -> None:
        for number in range(STEPS_PER_EPOCH):
            step = epoch * STEPS_PER_EPOCH + number
            scheduled = self.config.lr * self.schedule.factor(step)
            lr = self.averager.adjust_lr(epoch, number / STEPS_PER_EPOCH, scheduled, self.config.lr)
            set_lr(self.optimizer, lr, self.schedule.momentum(step))
            train_step(self.model, self.optimizer)
            self.averager.after_step()
        self.averager.after_epoch(epoch, lambda: [torch.ones(2, 3, 8, 8)])
        self.schedule.observe(METRICS[epoch])

    def parts(self) -> dict[str, object]:
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "averager": self.averager,
        }

    def saved(self) -> bytes:
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts().items()}, file)
        return file.getvalue()

    def load(self, saved: bytes) -> None:
        state = torch.load(io.BytesIO(saved), weights_only=True)
        for name, part in self.parts().items():
            part.load_state_dict(state[name])

    def weights(self) -> list[torch.Tensor]:
        models: list[nn.Module] = [self.model, self.averager.evaluated()]
        return [value for model in models for value in model.state_dict().values()]


def component(registry: Registry, name: str, **fields: object) -> Component:
    return registry[name](**(fields | SHORT_ENOUGH_TO_MATTER.get(name, {})))


@pytest.mark.parametrize("averaging", AVERAGING.names())
@pytest.mark.parametrize("schedule", SCHEDULES.names())
@pytest.mark.parametrize("optimizer", OPTIMIZERS.names())
def test_a_resumed_training_equals_an_uninterrupted_one(optimizer, schedule, averaging):
    whole, interrupted, resumed = (Training(optimizer, schedule, averaging) for _ in range(3))
    for epoch in (0, 1):
        whole.epoch(epoch)
        interrupted.epoch(epoch)
    resumed.load(interrupted.saved())
    before = [value.clone() for value in whole.weights()]
    for epoch in (2, 3):
        whole.epoch(epoch)
        resumed.epoch(epoch)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), resumed.weights(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole.weights(), before, strict=True))

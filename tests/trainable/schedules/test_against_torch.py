"""Each schedule against torch's own scheduler, and by hand where torch has none."""

import warnings

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from trainable.schedules import SCHEDULES, lr_curve

PEAK = 0.5


def torch_curve(make, steps: int, metrics: list[float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the learning rate and momentum that a torch scheduler gives each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=PEAK, momentum=0.9)
    scheduler = make(optimizer)
    lrs, momenta = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for step in range(steps):
            lrs.append(optimizer.param_groups[0]["lr"])
            momenta.append(optimizer.param_groups[0]["momentum"])
            scheduler.step(*([] if metrics is None else [metrics[step]]))
    return np.array(lrs), np.array(momenta)


@pytest.mark.parametrize("pct_start", [0.05, 0.1, 0.3, 0.33, 0.9])
@pytest.mark.parametrize("steps", [40, 101])
def test_one_cycle_is_torch_s(steps, pct_start):
    config = SCHEDULES["one_cycle"](pct_start=pct_start, div_factor=10.0, final_div_factor=1000.0)
    lrs, momenta = torch_curve(
        lambda o: lr_scheduler.OneCycleLR(
            o, PEAK, total_steps=steps, pct_start=pct_start, div_factor=10.0, final_div_factor=1000.0
        ),
        steps,
    )
    np.testing.assert_allclose(lr_curve(config, 1, steps, PEAK), lrs, rtol=1e-9, atol=1e-12)
    built = config.build(1, steps)
    np.testing.assert_allclose([built.momentum(step) for step in range(steps)], momenta, rtol=1e-9)


def test_one_cycle_may_leave_momentum_alone():
    assert SCHEDULES["one_cycle"](cycle_momentum=False).build(2, 10).momentum(3) is None


@pytest.mark.parametrize("min_factor", [0.0, 0.01])
def test_cosine_is_torch_s(min_factor):
    lrs, _ = torch_curve(lambda o: lr_scheduler.CosineAnnealingLR(o, 60, eta_min=min_factor * PEAK), 60)
    curve = lr_curve(SCHEDULES["cosine"](min_factor=min_factor), 6, 10, PEAK)
    np.testing.assert_allclose(curve, lrs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("min_factor", [0.0, 0.2])
def test_plateau_is_torch_s(patience, min_factor):
    # The curve of a noisy macro-F1: exact ties and rises just under and over the threshold are in it.
    rng = np.random.default_rng(0)
    metrics = list(np.minimum.accumulate(rng.random(20))[::-1] + 0.1 * rng.random(20)) + [0.5] * 9
    metrics += [metrics[-1] * (1 + 5e-5), metrics[-1] * (1 + 5e-4), 0.0, 0.9, 0.9, 0.9, 0.9]
    lrs, _ = torch_curve(
        lambda o: lr_scheduler.ReduceLROnPlateau(
            o, "max", factor=0.3, patience=patience, min_lr=min_factor * PEAK, eps=0.0
        ),
        len(metrics),
        metrics,
    )
    schedule = SCHEDULES["plateau"](factor=0.3, patience=patience, min_factor=min_factor).build(len(metrics), 1)
    ours = []
    for step, metric in enumerate(metrics):
        ours.append(PEAK * schedule.factor(step))
        schedule.observe(metric)
    np.testing.assert_allclose(ours, lrs, rtol=1e-9)
    assert len(set(np.round(ours, 9))) > 2


def test_step_at_milestones_is_torch_s():
    config = SCHEDULES["step"](gamma=0.2, milestones=(0.3, 0.6, 0.8))
    lrs, _ = torch_curve(lambda o: lr_scheduler.MultiStepLR(o, [60, 120, 160], gamma=0.2), 200)
    np.testing.assert_allclose(lr_curve(config, 20, 10, PEAK), lrs, rtol=1e-9)


def test_step_every_epochs_is_torch_s():
    lrs, _ = torch_curve(lambda o: lr_scheduler.StepLR(o, 30, gamma=0.5), 100)
    np.testing.assert_allclose(
        lr_curve(SCHEDULES["step"](gamma=0.5, every_epochs=3), 10, 10, PEAK), lrs, rtol=1e-9
    )


def test_warm_up_then_cosine_is_torch_s_sequence():
    config = SCHEDULES["cosine"](warmup_epochs=2.0, warmup_factor=0.1)
    lrs, _ = torch_curve(
        lambda o: lr_scheduler.SequentialLR(
            o,
            [lr_scheduler.LinearLR(o, 0.1, total_iters=20), lr_scheduler.CosineAnnealingLR(o, 80)],
            milestones=[20],
        ),
        100,
    )
    np.testing.assert_allclose(lr_curve(config, 10, 10, PEAK), lrs, rtol=1e-9, atol=1e-12)

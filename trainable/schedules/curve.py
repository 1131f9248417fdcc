"""A schedule's learning rates before anything is trained, for drawing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainable.schedules._base import Schedule


def lr_curve(schedule: Schedule, num_epochs: int, steps_per_epoch: int, lr: float) -> NDArray[np.float64]:
    """Return the learning rate of every optimizer step, `(num_epochs * steps_per_epoch,)`, warm-up included.

    A schedule that waits for the validation metric is drawn as if the metric rose in every epoch.

    Args:
        schedule: The schedule's config.
        num_epochs: Epochs of the trial.
        steps_per_epoch: Optimizer steps an epoch.
        lr: The peak.
    """
    built = schedule.build(num_epochs, steps_per_epoch)
    return lr * np.array([built.factor(step) for step in range(num_epochs * steps_per_epoch)])

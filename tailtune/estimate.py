"""What a search would cost, from a few training steps that are really taken."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.errors import TailtuneError

if TYPE_CHECKING:
    from tailtune.launch import Prepared
    from trainable.config import TrialConfig
    from trainable.data.dataset import ImageDataset, Split

MEASURED_STEPS = 4
MEASURED_VAL_IMAGES = 256
KEPT_WEIGHTS = 5
CHECKPOINT_COPIES = 4
"""A resumable state holds the weights, the optimizer's one or two moments and perhaps an average."""
VAL_SHARE = 1.0 / 3.0
"""A validation image costs a forward pass, a training image a forward and a backward of twice that."""


@dataclass(frozen=True)
class Estimate:
    """The cost of a search, roughly.

    Attributes:
        seconds: Wall time where ASHA stops as many trials as it is built to.
        seconds_at_most: Wall time where it stops none.
        memory_bytes: Host memory of the images and of all trials that run at a time.
        device_bytes: Device memory of one trial; 0 on the CPU.
        disk_bytes: Predictions of every trial, weights of the best ones, checkpoints of the running ones.
        images_per_second: Of one trial, as measured.
        measured_steps: Optimizer steps that the measurement took.
    """

    seconds: float
    seconds_at_most: float
    memory_bytes: int
    device_bytes: int
    disk_bytes: int
    images_per_second: float
    measured_steps: int

    def to_json(self) -> dict[str, float | int]:
        """Return the fields by name."""
        return asdict(self)


def plan(prepared: Prepared) -> dict[str, Any]:
    """Return what a prepared search would run, and its estimate.

    Returns:
        `{"study", "plan": {...}, "estimate": {...}}`.
    """
    spec = prepared.spec
    budget, given = spec.budget, spec.resources
    config = _typical(prepared)
    found = measure(
        config,
        prepared.dataset,
        prepared.split,
        trials=budget.trials,
        concurrent=given.concurrent,
        threads=max(1, int(given.cpus_per_trial)),
        grace_epochs=budget.grace_epochs,
        reduction_factor=budget.reduction_factor,
    )
    height, width = prepared.dataset.image_size
    return {
        "study": spec.name,
        "plan": {
            "data": f"{len(prepared.split.train)} training and {len(prepared.split.val)} validation images of "
            f"{prepared.dataset.num_classes} classes, {height}x{width}",
            "space": spec.space.name,
            "trials": budget.trials,
            "epochs": budget.epochs,
            "folds": spec.base.data.folds,
            "asha": f"first rung after {budget.grace_epochs} epochs, one in {budget.reduction_factor} goes on",
            "concurrent": given.concurrent,
            "each_trial": f"{given.cpus_per_trial:g} CPU, {given.gpus_per_trial:g} GPU",
            "start_from": ", ".join(spec.start_from) or "the space's centre",
            "notes": "; ".join(prepared.notes) or "none",
            "measured": f"{config.backbone.name}, batches of {config.batch_size}",
        },
        "estimate": found.to_json(),
    }


def _typical(prepared: Prepared) -> TrialConfig:
    """Return the configuration of the first trial: the first starting point, or the space's centre."""
    import optuna

    from tailtune.centre import Centre

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=Centre())
    for _, parameters in prepared.points[:1]:
        study.enqueue_trial(parameters)
    return prepared.space.suggest(study.ask(), prepared.spec.base)


def measure(
    config: TrialConfig,
    dataset: ImageDataset,
    split: Split,
    *,
    trials: int,
    concurrent: int,
    threads: int,
    grace_epochs: int,
    reduction_factor: int,
) -> Estimate:
    """Train `config` for a few steps and reckon from there.

    The first epoch of the measurement is a warm-up; the second is timed, at full size and through the whole
    network: cheaper epochs at a trial's beginning or end are not reckoned with. Trials that run side by side,
    each with its `threads`, are taken to share the machine without loss, its bandwidth and GPU as well.

    Args:
        config: A typical configuration of the space, with the epochs that are asked for.
        dataset: The images.
        split: The split that the search would use.
        trials: Trials asked for.
        concurrent: Trials at a time.
        threads: CPU threads of each.
        grace_epochs: Epochs before ASHA's first rung.
        reduction_factor: ASHA's.

    Raises:
        TailtuneError: If the configuration diverges at once.
    """
    from trainable.loop import fit
    from trainable.techniques import CLASSIFIER_RETRAINING, PROGRESSIVE_RESIZING

    few = _excerpt(split, config.batch_size)
    folds = int(config.data.folds)
    work = len(few.train) + VAL_SHARE * len(few.val)
    plain = config.model_copy(
        update={
            "epochs": 2,
            "data": config.data.model_copy(update={"folds": 1}),
            "progressive_resizing": PROGRESSIVE_RESIZING.parse("none"),
            "classifier_retraining": CLASSIFIER_RETRAINING.parse("none"),
        }
    )
    with _threads(threads):
        reports = fit(plain, dataset, few)
        next(reports)
        start = time.perf_counter()
        second = next(reports, None)
        per_image = (time.perf_counter() - start) / work
    if second is None:
        raise TailtuneError(
            "an estimate needs two epochs, but the typical configuration diverged in its first",
            "look at the space's learning rates, or search without --dry-run",
        )
    cost = second.cost
    trained, judged = len(split.train), len(split.val)
    if folds > 1:
        judged = (trained + judged) // folds
        trained = judged * (folds - 1)
    epoch_seconds = per_image * (trained + VAL_SHARE * judged)
    waves = trials / max(1, min(concurrent, trials))
    weights = 4 * int(cost["parameters"] or 0)
    predictions = judged * folds * (2 * dataset.num_classes + 16)
    return Estimate(
        seconds=waves * epoch_seconds * expected_epochs(config.epochs * folds, grace_epochs, reduction_factor),
        seconds_at_most=waves * epoch_seconds * config.epochs * folds,
        memory_bytes=dataset.images.nbytes + concurrent * int(cost["peak_host_bytes"] or 0),
        device_bytes=int(cost["peak_device_bytes"] or 0),
        disk_bytes=trials * predictions
        + min(trials, KEPT_WEIGHTS + concurrent) * weights * (1 + CHECKPOINT_COPIES),
        images_per_second=1.0 / per_image,
        measured_steps=2 * MEASURED_STEPS,
    )


@contextlib.contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Let torch use so many CPU threads meanwhile."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def expected_epochs(epochs: int, grace_epochs: int, reduction_factor: int) -> float:
    """Return the mean epochs of a trial where each of ASHA's rungs lets one in `reduction_factor` pass.

    >>> expected_epochs(9, 1, 3)  # 1 + 2 / 3 + 6 / 9
    2.3333333333333335
    """
    total, alive, reached, rung = 0.0, 1.0, 0, grace_epochs
    while rung < epochs:
        total += alive * (rung - reached)
        alive, reached, rung = alive / reduction_factor, rung, rung * reduction_factor
    return total + alive * (epochs - reached)


def _excerpt(split: Split, batch_size: int) -> Split:
    """Return a split of a few images, drawn from everywhere."""
    rng = np.random.default_rng(0)
    train = rng.permutation(split.train)[: MEASURED_STEPS * batch_size]
    val = rng.permutation(split.val)[:MEASURED_VAL_IMAGES]
    return replace(split, train=np.sort(train), val=np.sort(val))

"""A search from its study to its end: the one place that knows Ray's Tuner."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analysis.atomic import CannotWrite
from analysis.errors import TailtuneError
from tailtune.brake import Brake
from tailtune.exchange import Observer, Space
from tailtune.optuna_bridge import Ledger
from tailtune.planning import machine, threads_alone
from tailtune.ray_runtime import connected_ray, require_room
from tailtune.study import Study

RESTARTS_WITHOUT_PROGRESS = 3

Ending = Literal["finished", "exhausted", "interrupted", "stop requested", "time budget"]


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        ending: `finished` and `exhausted` (the space has no further configuration) are final; after the
            others, unfinished trials wait to be resumed.
        ended_trials: Trials of the study that have ended, those replaced not counted.
        asked_trials: Trials that were asked for.
    """

    ending: Ending
    ended_trials: int
    asked_trials: int


def run_search(
    study: Study,
    space: Space,
    trainable: type,
    *,
    shared: Callable[[bool], Mapping[str, Any]] | None = None,
    observer: Observer | None = None,
    time_budget_seconds: float | None = None,
    address: str | None = None,
) -> Outcome:
    """Run the study's trials until it has as many as its budget asks for, resuming what is unfinished.

    Must be called from the thread that lives as long as the search: a local Ray dies with it.

    Args:
        study: The study; nobody else may be driving it.
        space: Where configurations come from.
        trainable: A class with Ray Tune's class API (`trainable.tune_adapter.ImageTrainable`), whose results
            are those of `tailtune.tune_bridge.epoch_result`.
        shared: Called once Ray runs, and told whether that is our own, on this machine alone; returns further
            keyword arguments for the trainable's `setup`. They travel with the class: what is large is a
            reference or a file.
        observer: Is told what happens.
        time_budget_seconds: Ends the search, leaving unfinished trials to be resumed.
        address: Of a Ray cluster; None starts a local Ray.

    Raises:
        TailtuneError: If another driver has the study, its storage fails, or Ray cannot be started.
    """
    with study.locked() as lock:
        brake = Brake(study.folder, time_budget_seconds, lock.beat)
        ledger = study.ledger(space, observer)
        try:
            with brake.on_signals():
                _until_done(study, ledger, brake, trainable, shared, address)
        finally:
            _close(ledger, brake)
        if brake.fault is not None:
            raise _storage_fault(study, brake.fault) from brake.fault
        return Outcome(_ending(ledger, brake), ledger.ended, study.spec.budget.trials)


def _until_done(
    study: Study,
    ledger: Ledger,
    brake: Brake,
    trainable: type,
    shared: Callable[[bool], Mapping[str, Any]] | None,
    address: str | None,
) -> None:
    """Run Tune, again and again as long as Ray dies under it and trials still get further."""
    resources = study.spec.resources
    fruitless = 0
    while not ledger.finished and not brake.pulled():
        before = ledger.reports
        with connected_ray(study.folder, resources.concurrent * resources.cpus_per_trial, address) as own:
            brake.listen()
            _tune(study, ledger, brake, trainable, shared, at_once=own)
        if brake.reason == "ray died":
            brake.reason = None
        fruitless = 0 if ledger.reports > before else fruitless + 1
        if fruitless >= RESTARTS_WITHOUT_PROGRESS:
            raise TailtuneError(
                f"Ray ended {fruitless} times without a single epoch in between: {_line(brake.last_error)}",
                f"run `tailtune doctor`, then `tailtune resume {study.name}`",
            )
        if brake.fault is None:  # else the storage may be what failed: what can be put back is, at the end
            ledger.release()


def _tune(
    study: Study,
    ledger: Ledger,
    brake: Brake,
    trainable: type,
    shared: Callable[[bool], Mapping[str, Any]] | None,
    *,
    at_once: bool,
) -> None:
    """Run one Tuner on what the ledger has left; Ray is connected."""
    from ray import tune
    from ray.exceptions import RayError
    from ray.tune.error import TuneError

    from tailtune.tune_bridge import (
        BrakeStopper,
        Halted,
        LedgerScheduler,
        LedgerSearcher,
        Watch,
        with_arguments,
    )

    resources = study.spec.resources
    require_room(resources.cpus_per_trial, resources.gpus_per_trial)
    scheduler = LedgerScheduler(ledger, brake)
    alone = threads_alone(resources, study.spec.budget.trials, cores=machine()[0]) if at_once else None
    with_data = trainable if shared is None else with_arguments(trainable, shared(at_once))
    tuner = tune.Tuner(
        tune.with_resources(with_data, {"cpu": resources.cpus_per_trial, "gpu": resources.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(ledger, brake, resources.concurrent, alone),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(study.folder / "ray"),
            stop=BrakeStopper(brake, at_once=at_once),
            callbacks=[Watch(scheduler, brake)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    except Halted:
        pass
    except (RayError, TuneError, ConnectionError) as error:
        brake.last_error = error
    except OSError as fault:  # Tune keeps a few files of its own in the study's folder
        brake.fail(fault)


def _close(ledger: Ledger, brake: Brake) -> None:
    """Leave the study in order, as far as its storage lets us."""
    with contextlib.ExitStack() as stack:
        if brake.fault is not None:
            stack.enter_context(contextlib.suppress(Exception))
        ledger.close()


def _ending(ledger: Ledger, brake: Brake) -> Ending:
    if ledger.finished:
        return "exhausted" if ledger.exhausted else "finished"
    assert brake.reason is not None
    assert brake.reason != "fault"
    assert brake.reason != "ray died"
    return brake.reason


def _storage_fault(study: Study, fault: Exception) -> TailtuneError:
    if isinstance(fault, TailtuneError) and not isinstance(fault, CannotWrite):
        return fault
    said = fault.message if isinstance(fault, CannotWrite) else _told(fault)
    return TailtuneError(
        f"the search could not go on: {said}",
        f"mend that, then `tailtune resume {study.name}`; trials go on from their checkpoints",
    )


def _told(fault: Exception) -> str:
    """Return a fault in a line: a database's own, where Optuna and SQLAlchemy say nothing of a full disk."""
    own = getattr(fault.__cause__, "orig", None) or getattr(fault, "orig", None)
    return _line(fault) if own is None else str(own).strip().partition("\n")[0][:200]


def _line(error: Exception | None) -> str:
    """Return the telling line of an error; Tune puts whole tracebacks into its own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


__all__ = ["Ending", "Outcome", "run_search"]

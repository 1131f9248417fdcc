"""The ledger as Ray Tune sees it: a searcher, a scheduler and a stopper that decide nothing themselves."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from analysis.atomic import CannotWrite
from tailtune.brake import Brake
from tailtune.exchange import EpochResult
from tailtune.optuna_bridge import Ledger

ALIVE_CHECK_SECONDS = 5.0


class Halted(BaseException):
    """Leaves Tune's loop at once. Not an `Exception`: Tune would turn one into a failed trial, or tidy up."""


class LedgerSearcher(Searcher):  # type: ignore[misc]  # Ray has no types
    """Hands out the ledger's trials, at most `concurrent` at a time.

    Args:
        ledger: Knows the trials.
        brake: Nothing is handed out once it is pulled.
        concurrent: Trials at a time.
        alone: CPU threads of a study's first trial, beside which nothing else runs until it has ended; None
            treats it as any other.
    """

    def __init__(self, ledger: Ledger, brake: Brake, concurrent: int, alone: int | None = None) -> None:
        super().__init__()
        self._ledger, self._brake, self._concurrent, self._alone = ledger, brake, concurrent, alone

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial, None while there is none, or FINISHED."""
        most = self._concurrent if self._threads_alone is None else 1
        if self._brake.reason is not None or len(self._ledger.live) >= most:
            return None
        try:
            assignment = self._ledger.ask(trial_id)
        except Exception as fault:
            self._brake.fail(fault)
            raise Halted from fault
        if assignment is None:
            # FINISHED is for ever, and a live trial may yet come back to be handed out again.
            return None if self._ledger.live else str(Searcher.FINISHED)
        if assignment.config.training.threads is not None:  # the space has said how many
            self._alone = None
        return {
            "number": assignment.number,
            "config": assignment.config.model_dump_json(),
            "record": str(assignment.record),
            "attempt": assignment.attempt,
            "threads": self._threads_alone,
            "weights_from": assignment.weights_from,
        }

    @property
    def _threads_alone(self) -> int | None:
        """Threads of a trial handed out now, if it is the first; asking may have ended one that was refused."""
        return None if self._ledger.ended else self._alone

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Nothing: the scheduler has been told, and knows the exception too."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the only state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the only state."""


class LedgerScheduler(TrialScheduler):  # type: ignore[misc]  # Ray has no types
    """Passes every result to the ledger before Tune decides: Tune withholds the one on which it stops."""

    def __init__(self, ledger: Ledger, brake: Brake) -> None:
        super().__init__()
        self._ledger, self._brake = ledger, brake
        self._live: dict[str, Trial] = {}

    def on_trial_add(self, controller: Any, trial: Trial) -> None:
        """Remember the trial until it has ended."""
        self._live[trial.trial_id] = trial

    def on_trial_result(self, controller: Any, trial: Trial, result: Mapping[str, Any]) -> str:
        """Return STOP or CONTINUE; the study has the value, and the end if there is one, before Tune acts."""
        return str(self.STOP if self._tell(trial, result) else self.CONTINUE)

    def on_trial_complete(self, controller: Any, trial: Trial, result: Mapping[str, Any]) -> None:
        """Take a result with `done`, which Tune does not pass to `on_trial_result`."""
        self._tell(trial, result)
        self._live.pop(trial.trial_id, None)

    def on_trial_error(self, controller: Any, trial: Trial) -> None:
        """Tell a trial's own exception from a worker process that is gone, and from a full disk."""
        self._live.pop(trial.trial_id, None)
        error = _error_of(trial)
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, CannotWrite):  # the next trial would meet it as well, and all would end as FAIL
            self._brake.fail(cause)
            raise Halted from cause
        number = trial.config["number"]
        gone = isinstance(error, RayActorError) and not getattr(error, "actor_init_failed", False)
        if gone:
            halt_if_ray_died(self._brake)  # then it is no loss of the trial's
        self._safely((self._ledger.lost if gone else self._ledger.failed), number, reason_of(error))

    def on_trial_remove(self, controller: Any, trial: Trial) -> None:
        """Tune forgot a trial before it ran; hand it out again."""
        self._live.pop(trial.trial_id, None)
        self._safely(self._ledger.lost, trial.config["number"], "removed before it ran")

    def choose_trial_to_run(self, controller: Any) -> None:
        """Leave the order to Tune: first come, first served."""

    def debug_string(self) -> str:
        """Return a name for Tune's own status line."""
        return "ASHA of the ledger"

    def reconcile(self) -> None:
        """Fail what Tune has dropped without a word, so that no search waits for it."""
        for trial in [
            trial for trial in self._live.values() if trial.status in (Trial.ERROR, Trial.TERMINATED)
        ]:
            self.on_trial_error(None, trial)

    def _tell(self, trial: Trial, result: Mapping[str, Any]) -> bool:
        ended = self._safely(self._ledger.result, trial.config["number"], epoch_result(result))
        return ended is not False

    def _safely(self, call: Callable[..., bool | None], *arguments: Any) -> bool | None:
        """Let a fault of the driver (a full disk, a lost database) end the search, not the trial."""
        try:
            return call(*arguments)
        except Exception as fault:
            self._brake.fail(fault)
            raise Halted from fault


class BrakeStopper(Stopper):  # type: ignore[misc]  # Ray has no types
    """Ends the experiment when the brake is pulled.

    Args:
        brake: Asked at each of Tune's steps.
        at_once: Leave without Tune's tidying, which waits ten seconds for an epoch under way; for a Ray of
            our own, whose workers end with it.
    """

    def __init__(self, brake: Brake, *, at_once: bool) -> None:
        self._brake, self._at_once = brake, at_once

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return False: single trials are the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Return whether to stop; raises `Halted` where that is to be at once."""
        if self._brake.pulled() and self._at_once:
            raise Halted
        return self._brake.reason is not None


class Watch(Callback):  # type: ignore[misc]  # Ray has no types
    """Looks after what Tune does not tell: dropped trials, and a Ray that has died."""

    def __init__(self, scheduler: LedgerScheduler, brake: Brake) -> None:
        self._scheduler, self._brake = scheduler, brake
        self._checked = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look, between two events."""
        self._scheduler.reconcile()
        if time.monotonic() - self._checked > ALIVE_CHECK_SECONDS:
            self._checked = time.monotonic()
            halt_if_ray_died(self._brake)


def with_arguments(trainable: type, arguments: Mapping[str, Any]) -> type:
    """Return `trainable` with further keyword arguments for its `setup`.

    Not `tune.with_parameters`: that puts each of them into the object store, and Ray ends a driver that owns
    objects there, at once and without a word, when its raylet is killed (seen with Ray 2.60).
    """

    class WithArguments(trainable):  # type: ignore[misc]  # a class that is known only when it runs
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, **arguments)

    WithArguments.__name__ = trainable.__name__
    return WithArguments


def halt_if_ray_died(brake: Brake) -> None:
    """Leave Tune's loop where Ray has no node left: it would wait for one for ever."""
    if not any(node["Alive"] for node in ray.nodes()):
        brake.pull("ray died")
        raise Halted


def epoch_result(flat: Mapping[str, Any]) -> EpochResult:
    """Return what a trainable reported, from Tune's flattened result."""
    cost = flat.get("cost", {})
    if dataclasses.is_dataclass(cost) and not isinstance(cost, type):
        cost = dataclasses.asdict(cost)
    nested = {key.removeprefix("cost/"): value for key, value in flat.items() if key.startswith("cost/")}
    return EpochResult(
        epoch=int(flat["epoch"]),
        value=float(flat["macro_f1"]),
        history=[(int(epoch), float(value)) for epoch, value in flat.get("history") or ()],
        done=bool(flat.get("done", False)),
        final=bool(flat.get("final", False)),
        final_value=flat.get("final_value"),
        diverged=flat.get("diverged"),
        cost={**cost, **nested},
        host=flat.get("hostname"),
    )


def _error_of(trial: Trial) -> BaseException | None:
    """Return what ended the trial; its own `get_pickled_error` reads where Tune has not put it yet."""
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    error = ray.cloudpickle.loads(Path(path).read_bytes())
    return error if isinstance(error, BaseException) else None


def reason_of(error: BaseException | None) -> str:
    """Return a trial's exception in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(error, RayTaskError) and cause is not None:
        error = cause
    if error is None:
        return "Ray dropped it without a reason"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, RayActorError):
        return f"its worker process is gone: {lines[-1] if lines else 'no reason given'}"[:400]
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")[:400]


__all__ = [
    "BrakeStopper",
    "Halted",
    "LedgerScheduler",
    "LedgerSearcher",
    "Watch",
    "epoch_result",
    "reason_of",
    "with_arguments",
]

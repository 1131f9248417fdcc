"""A Ray of our own for one search: quiet, authenticated, on this machine alone, and gone without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import math
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from analysis.errors import TailtuneError, UsageError

_PREFIX = "tailtune-ray-"
_HELD = "held"
_YOUNG_SECONDS = 60.0
_LONGEST_ROOT = 107 - len(
    "/tailtune-ray-12345678/session_2026-11-22_22-15-29_820616_1234567/sockets/plasma_store"
)
_STARTS = 3
_FIRST = "trainable.worker_start.load"
_QUIET = {"log_to_driver": False, "logging_level": "critical"}
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Workers that Ray starts beforehand lack Tune's environment, and end unused: a second of two cores.
    "RAY_prestart_worker_first_driver": "0",
    # Ray's own memory monitor ends the whole search; the kernel's ends one process, which is handled.
    "RAY_memory_monitor_refresh_ms": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    # Any number that is never reached: by itself Tune starts a worker only after the one before is up.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


@contextmanager
def connected_ray(folder: Path, cpus: float, address: str | None = None) -> Iterator[bool]:
    """Have Ray for the length of a `with`; yields whether it is our own and ends with it.

    A Ray that this process is already connected to is used and left alone. Otherwise `address` names a
    cluster, and without one a local Ray is started. Its sockets live in the system's temporary folder (a
    Unix socket's path has at most 107 bytes, and many network disks have no sockets), and what killed
    drivers left there goes first.

    Args:
        folder: The study's; Tune's own state is in its `ray` while this lasts.
        cpus: Logical CPUs that the trials will ask for at the same time, for a local Ray.
        address: `auto`, or `HOST:PORT` of a cluster.

    Raises:
        UsageError: If `address` is a Ray Client's.
        TailtuneError: If no Ray answers at `address`, or none can be started.
    """
    if address is not None and address.startswith("ray://"):
        raise UsageError(
            f"the search runs beside its study's storage, but {address} is a Ray Client address",
            "submit it to the cluster with `ray job submit -- tailtune search … --address auto`",
        )
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    import ray

    logging.getLogger("ray").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield False
        return
    shutil.rmtree(folder / "ray", ignore_errors=True)
    clear_leftovers()
    with contextlib.ExitStack() as held:
        _connect(held, cpus, address)
        try:
            yield True
        finally:
            ray.shutdown()
            shutil.rmtree(folder / "ray", ignore_errors=True)


def _knock(address: str) -> None:
    """Raise where nothing listens at `HOST:PORT`: Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10.0).close()


def require_room(cpus: float, gpus: float) -> None:
    """Refuse trials that fit on no node of the connected cluster: they would wait for ever.

    Raises:
        TailtuneError: With what the largest nodes have.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(node.get("CPU", 0.0) >= cpus and node.get("GPU", 0.0) >= gpus for node in nodes):
        return
    most = max((node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes)
    raise TailtuneError(
        f"a trial must fit on one node, but it asks for {cpus:g} CPUs and {gpus:g} GPUs "
        f"and the largest has {most[0]:g} and {most[1]:g}",
        "ask for less with --cpus-per-trial and --gpus-per-trial in a new study, or run it on a larger machine",
    )


def clear_leftovers() -> None:
    """Remove the temporary folders that killed drivers left: those that no living one holds."""
    for scratch in _short_root().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _abandoned(scratch):
                shutil.rmtree(scratch, ignore_errors=True)


def _short_root() -> Path:
    """Return the temporary folder, or /tmp where that is too long: a socket's path has at most 107 bytes."""
    root = tempfile.gettempdir()
    return Path(root if len(root.encode()) <= _LONGEST_ROOT or not os.access("/tmp", os.W_OK) else "/tmp")


def _abandoned(scratch: Path) -> bool:
    if not (scratch / _HELD).exists():  # its driver is about to hold it, or was killed before it could
        return time.time() - scratch.stat().st_mtime > _YOUNG_SECONDS
    with (scratch / _HELD).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


@contextmanager
def _scratch() -> Iterator[Path]:
    """Have a temporary folder that is known to be in use for as long as this process lives."""
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_root()))
    try:
        with (scratch / _HELD).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _connect(held: contextlib.ExitStack, cpus: float, address: str | None) -> None:
    """Connect to `address`, or start a local Ray whose temporary folder goes when `held` closes."""
    import ray

    if address is None:
        _start(held, cpus)
        return
    try:
        _knock(address)
        with _muted():
            ray.init(address=address, **_QUIET)
    except Exception as error:
        raise TailtuneError(
            f"no Ray cluster answers at '{address}': {_line(error)}",
            "check `ray status` there, or leave --address out to run on this machine",
        ) from None


@contextmanager
def _muted() -> Iterator[None]:
    """Keep what native code writes off the screen: a cluster with another token is told of in twenty lines."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _start(held: contextlib.ExitStack, cpus: float) -> None:
    """Start a local Ray; again where it fails, since it gives itself 30 seconds however busy the machine is."""
    import ray

    # Ray turns token authentication on by itself; a token of our own keeps it from writing one to ~/.ray.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    reason = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it forgets those of a failed start without waiting
        for _ in range(_STARTS):
            scratch = held.enter_context(_scratch())
            try:
                ray.init(
                    address="local",
                    num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
                    include_dashboard=False,
                    _temp_dir=str(scratch),
                    runtime_env={"worker_process_setup_hook": _FIRST},
                    **_QUIET,
                )
            except Exception as error:
                reason = _line(error)
            else:
                return
            _end_half_started(scratch)
    raise TailtuneError(f"Ray did not start on this machine: {reason}", "run `tailtune doctor`")


def _end_half_started(scratch: Path) -> None:
    """End the processes of a Ray that did not come up; its own shutdown knows nothing of them."""
    import ray

    ray.shutdown()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(scratch) in word for word in child.cmdline()):
                child.kill()
    gc.collect()


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

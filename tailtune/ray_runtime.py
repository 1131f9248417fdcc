"""A Ray of our own for one search: quiet, authenticated, on this machine alone, and gone without a trace."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analysis.atomic import write_atomic
from analysis.errors import TailtuneError, UsageError

_PREFIX = "tailtune-"
_TRACE = "ray-temp"
_STARTS = 3
_QUIET = {"log_to_driver": False, "logging_level": "critical"}
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray's own memory monitor ends the whole search; the kernel's ends one process, which is handled.
    "RAY_memory_monitor_refresh_ms": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


@contextmanager
def connected_ray(folder: Path, cpus: float, address: str | None = None) -> Iterator[bool]:
    """Have Ray for the length of a `with`; yields whether it is our own and ends with it.

    A Ray that this process is already connected to is used and left alone. Otherwise `address` names a
    cluster, and without one a local Ray is started. Its sockets live in the system's temporary folder (a
    Unix socket's path has at most 107 bytes, and many network disks have no sockets), and what a killed
    driver of the same study left there goes first.

    Args:
        folder: The study's; remembers where the temporary folder is.
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
    clear_leftovers(folder)
    _connect(folder, cpus, address)
    try:
        yield True
    finally:
        ray.shutdown()
        clear_leftovers(folder)


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


def clear_leftovers(folder: Path) -> None:
    """Remove what Ray has left of the study in `folder`.

    Some of a killed driver's Ray processes live on for seconds and write; what could not be removed for
    them stays listed, and goes at the next start or end.
    """
    trace = folder / _TRACE
    left = [Path(line) for line in trace.read_text(encoding="utf-8").splitlines()] if trace.exists() else []
    for scratch in left:
        if scratch.name.startswith(_PREFIX):
            shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(folder / "ray", ignore_errors=True)
    remaining = [str(scratch) for scratch in left if scratch.exists()]
    if remaining:
        write_atomic(trace, "\n".join(remaining).encode())
    else:
        trace.unlink(missing_ok=True)


def _connect(folder: Path, cpus: float, address: str | None) -> None:
    """Connect to `address`, or start a local Ray."""
    import ray

    if address is None:
        _start(folder, cpus)
        return
    try:
        _knock(address)
        ray.init(address=address, **_QUIET)
    except Exception as error:
        raise TailtuneError(
            f"no Ray cluster answers at '{address}': {_line(error)}",
            "check `ray status` there, or leave --address out to run on this machine",
        ) from None


def _start(folder: Path, cpus: float) -> None:
    """Start a local Ray; again where it fails, since it gives itself 30 seconds however busy the machine is."""
    import ray

    # Ray turns token authentication on by itself; a token of our own keeps it from writing one to ~/.ray.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for attempt in range(1, _STARTS + 1):
        scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with (folder / _TRACE).open("a", encoding="utf-8") as trace:
            trace.write(f"{scratch}\n")
        try:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
                include_dashboard=False,
                _temp_dir=str(scratch),
                **_QUIET,
            )
        except Exception as error:
            ray.shutdown()
            clear_leftovers(folder)
            if attempt == _STARTS:
                raise TailtuneError(
                    f"Ray did not start on this machine: {_line(error)}", "run `tailtune doctor`"
                ) from error
        else:
            return


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

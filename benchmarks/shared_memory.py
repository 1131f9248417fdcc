"""P5: how many copies of the images K = 4 concurrent trials hold on one node, counted by PSS.

    python -m benchmarks.shared_memory [--rounds 5]

Four workers as a search makes them train one epoch each on a large data set, then four on a small one, then
the same with two of each; the images lie in the decoded cache's memory map, or in an array of the driver.
Copies are the difference in proportional set size of driver, workers and Ray's object store, over the
difference in bytes of images. A memory map far larger than the machine's memory then trains as well.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.epoch_efficiency import CLASSES
from benchmarks.table import Row, run, shown
from tailtune.ray_runtime import connected_ray
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.tune_adapter import ImageTrainable, SharedData

SIDE = 32
IMAGE_BYTES = SIDE * SIDE * 3
LARGE, SMALL = 96_000, 4_000
SEEN = 400
"""Training images of an epoch: spread over all, they do not touch every page, so all are read first."""
CONFIG = {
    "epochs": 1,
    "backbone": {"name": "resnet10t", "small_stem_up_to": 0},
    "training": {"precision": "fp32"},
}


class Reading(ImageTrainable):
    """Reads every image before its first epoch, as many epochs would."""

    def step(self) -> dict[str, Any]:
        """Train an epoch, after a look at everything."""
        images = self._dataset.images
        for start in range(0, len(images), 4096):
            images[start : start + 4096].max()
        return super().step()


def dataset_of(images: np.ndarray[Any, np.dtype[np.uint8]], seen: int) -> tuple[ImageDataset, Split]:
    """Return `images` as a data set of which `seen`, spread over it, train."""
    count = len(images)
    names = tuple(str(label) for label in range(CLASSES))
    labels = np.arange(count) % CLASSES
    dataset = ImageDataset(images, labels, names, "noise", "noise", np.zeros(count, dtype=np.int8))
    chosen = np.unique(np.linspace(0, count - 1, seen).astype(np.int64))
    return dataset, Split(chosen[::2], chosen[1::2][: seen // 4], np.arange(0))


def on_disk(path: Path, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return `count` images as the decoded cache keeps them: a read-only memory map."""
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
    for start in range(0, count, 4000):
        images[start : start + 4000] = np.random.default_rng(start).integers(0, 256, (4000, SIDE, SIDE, 3))
    images.flush()
    mapped: np.ndarray[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
    return mapped


def pss(images: np.ndarray[Any, np.dtype[np.uint8]], workers: int, folder: Path) -> int:
    """Return the PSS in bytes of this process, of `workers` trials that have trained, and of the object store.

    Ray's other processes are left out: how many idle ones it starts ahead is its own affair.
    """
    import ray
    from ray import tune

    dataset, split = dataset_of(images, SEEN)
    with connected_ray(folder / "home", workers):
        data = SharedData.put(dataset, split, folder)
        given = tune.with_parameters(Reading, data=data, threads=1, cache_dir=folder)
        actor = ray.remote(num_cpus=1)(given)
        config = TrialConfig.model_validate(CONFIG).model_dump_json()
        trials = [
            actor.remote(
                config={
                    "number": n,
                    "config": config,
                    "record": str(folder / f"{len(images)}-{n}"),
                    "attempt": "a",
                }
            )
            for n in range(workers)
        ]
        pids = [result["pid"] for result in ray.get([trial.train.remote() for trial in trials])]
        me = psutil.Process()
        stores = [child for child in me.children(recursive=True) if child.name() == "raylet"]
        counted = [me, *stores, *map(psutil.Process, pids)]
        return sum(process.memory_full_info().pss for process in counted)


def copies(folder: Path, workers: int, *, mapped: bool) -> float:
    """Return how many copies of the images there are in memory."""
    found = []
    for count in (LARGE, SMALL):
        images = on_disk(folder / f"{count}.npy", count)
        if not mapped:
            images = np.array(images)  # the map goes: what has been read through it is counted as well
        found.append(pss(images, workers, folder))
        del images
    return (found[0] - found[1]) / ((LARGE - SMALL) * IMAGE_BYTES)


def larger_than_memory(folder: Path) -> tuple[float, float]:
    """Train on a sparse memory map of twice the machine's memory; return its GiB and the trial's peak GiB."""
    from trainable.loop import fit

    count = 2 * psutil.virtual_memory().total // IMAGE_BYTES
    images = np.lib.format.open_memmap(
        folder / "sparse.npy", mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3)
    )
    dataset, split = dataset_of(images, SEEN)
    report = list(fit(TrialConfig.model_validate(CONFIG), dataset, split))[-1]
    peak = report.cost["peak_host_bytes"]
    assert peak is not None
    return images.nbytes / 2**30, peak / 2**30


def rows(rounds: int) -> Iterator[Row]:
    """Yield the copies with four trials, what a further trial adds, and the data set that does not fit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mapped, kind in ((True, "decoded cache"), (False, "array in the driver")):
            four = [copies(folder, 4, mapped=mapped) for _ in range(rounds)]
            two = [copies(folder, 2, mapped=mapped) for _ in range(rounds)]
            goal = 1 if mapped else 2  # such an array is the driver's own, beside the workers' one
            passes = statistics.median(four) <= goal + 0.05
            yield Row("P5", f"copies of the images, K = 4, {kind}", f"{goal}", shown(four), passes)
            further = [(k4 - k2) / 2 for k4, k2 in zip(four, two, strict=True)]
            passes = statistics.median(further) <= 0.05
            yield Row("P5", f"copies that each further trial adds, {kind}", "0", shown(further), passes)
        size, peak = larger_than_memory(folder)
        what = f"an epoch on a memory map of {size:.0f} GiB, twice the memory: peak of the process"
        yield Row("P5", what, "it trains", f"{peak:.2f} GiB", True)


if __name__ == "__main__":
    run(rows, __doc__)

"""One trial as Ray Tune sees it: a class trainable whose worker is used again for the next trial."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray import tune

from analysis.atomic import write_atomic
from analysis.records import RecordFolder
from trainable.config import TrialConfig
from trainable.data.dataset import ImageDataset, Split
from trainable.history import EpochReport
from trainable.host_memory import keep_freed_memory, return_freed_memory
from trainable.loop import fit
from trainable.parent_death import die_with_parent


@dataclass(frozen=True)
class SharedData:
    """A dataset for the workers of a search: small things by value, the images mapped by all of a node.

    Attributes:
        images: The file of a memory map, where every worker is on the driver's own node; else a reference to
            the `(N, H, W, C)` uint8 array in Ray's object store, of which each node has one copy.
        rest: The dataset with an empty image array.
        split: Which images train and validate.
    """

    images: Any
    rest: ImageDataset
    split: Split

    @classmethod
    def put(cls, dataset: ImageDataset, split: Split, scratch: Path | None = None) -> SharedData:
        """Share `dataset` with the cluster that this process is connected to.

        On one machine nothing goes through the object store: a memory map of a whole `.npy` file is shared as
        that file (it may be larger than the memory, and takes no second copy of what the system has cached of
        it), any other array is written as one. What is in the store dies with Ray, and a driver that owns
        objects there is ended by Ray without a word when its raylet is killed.

        Args:
            dataset: Images and labels.
            split: Which of them train and validate.
            scratch: A folder, where every worker will run on this machine; None uses the object store.
        """
        images = dataset.images
        rest = dataset.with_images(np.zeros((0, *images.shape[1:]), dtype=np.uint8))
        if scratch is None:
            return cls(ray.put(np.ascontiguousarray(images)), rest, split)
        path = _whole_file(images)
        if path is None:
            path = scratch / "images.npy"
            write_atomic(path, lambda file: np.save(file, images))
        return cls(path, rest, split)

    def get(self) -> ImageDataset:
        """Return the dataset; its images are read-only and not copied."""
        if isinstance(self.images, Path):
            mapped: NDArray[np.uint8] = np.load(self.images, mmap_mode="r")
            return self.rest.with_images(mapped)
        return self.rest.with_images(ray.get(self.images))


def _whole_file(images: NDArray[np.uint8]) -> Path | None:
    """Return the `.npy` file that `images` maps from beginning to end, or None where it is anything else."""
    name = getattr(images, "filename", None)
    if name is None or Path(name).suffix != ".npy" or not Path(name).exists():
        return None
    path = Path(name).absolute()
    stored = np.load(path, mmap_mode="r")
    # A part of a map, or one turned round, keeps the whole file's name.
    alike = (stored.shape, stored.strides, stored.dtype) == (images.shape, images.strides, images.dtype)
    return path if alike else None


class ImageTrainable(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Trains one `TrialConfig` an epoch a step; see `result_of` for what it reports.

    Its config has `number`, `config` (the `TrialConfig` as JSON), `record` (folder), `attempt`, and may have
    `threads`, instead of those of `setup`, and `weights_from`, as `fit` takes it.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: SharedData,
        threads: int,
        cache_dir: Path | None = None,
        gpu_share: float = 1.0,
    ) -> None:
        """Begin the first trial of this worker.

        Args:
            config: See above.
            data: The dataset in the object store.
            threads: CPU threads that the trial may use.
            cache_dir: As `fit` takes it.
            gpu_share: Of the GPU's memory, in (0, 1]: trials that are packed onto one cannot take each other's.
        """
        die_with_parent()
        keep_freed_memory()
        if gpu_share < 1.0 and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(gpu_share)
        self._fresh, self._frozen = True, False
        self._threads = threads
        self._dataset, self._split, self._cache_dir = data.get(), data.split, cache_dir
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this worker, after everything of the former one is freed."""
        self._end()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch and report it."""
        report = next(self._reports)
        result = result_of(report, with_history=self._fresh)
        self._fresh = False
        if report.final:
            self._end()
        return result

    def cleanup(self) -> None:
        """Free what the last trial held."""
        self._end()

    def _begin(self, config: dict[str, Any]) -> None:
        record = RecordFolder(config["record"])
        record.claim(config["attempt"])
        # Set even where it is the default: the former trial may have wanted another number.
        torch.set_num_threads(config.get("threads") or self._threads)
        self._fresh = True
        self._reports: Iterator[EpochReport] = fit(
            TrialConfig.model_validate_json(config["config"]),
            self._dataset,
            self._split,
            record=record,
            attempt=config["attempt"],
            weights_from=config.get("weights_from", 0.0),
            cache_dir=self._cache_dir,
        )

    def _end(self) -> None:
        self._reports = iter(())
        gc.collect()
        if not self._frozen:
            # What a first trial leaves behind is torch and its kin: a quarter of a second to walk.
            gc.freeze()
            self._frozen = True
        return_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def result_of(report: EpochReport, *, with_history: bool) -> dict[str, Any]:
    """Return what the driver is told of an epoch: finite numbers only.

    Args:
        report: The epoch.
        with_history: Also tell every earlier epoch's value, so that the driver can fill gaps after a restart.
    """
    value = report.macro_f1 if math.isfinite(report.macro_f1) else 0.0
    return {
        "epoch": report.epoch,
        "macro_f1": value,
        "history": [[epoch, macro_f1] for epoch, macro_f1 in report.curve] if with_history else [],
        "done": report.final,
        "final": report.final,
        "final_value": report.best_macro_f1 if report.final and report.diverged is None else None,
        "diverged": report.diverged,
        "cost": report.cost,
    }

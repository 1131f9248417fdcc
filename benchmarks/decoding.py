"""Decoding against a plain Pillow loop, the second start from the cache, and the memory that both take.

Command: `python -m benchmarks.decoding` (writes its own JPEGs; `--images 60000 --side 56 --size 48 48`).
Results: `benchmarks/decoding.md`. Prints one line of JSON: wall seconds of each and their ratio; CPU seconds of
this process and of its decoding processes. Then everything is decoded once more, untimed, while the memory of
all processes is sampled: PSS shares a page out among those that map it, so that the cache counts once;
`anonymous` is what could not be written back to a file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import psutil
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from trainable.config import DataConfig
from trainable.data.load import load_dataset


def write_images(root: Path, count: int, side: int) -> None:
    """Write `count` grey JPEGs in 100 classes; each of 500 different pictures is linked as often as needed."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = root / f"{number % 100:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        if number < 500:
            coarse = generator.integers(0, 256, (8, 8), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            picture.save(path, quality=90)
        else:
            os.link(root / f"{number % 100:02d}" / f"{number % 500:06d}.jpg", path)


def plain_loop(root: Path, size: tuple[int, int]) -> float:
    """Return the seconds that opening, decoding and resizing one image after the other takes."""
    paths = sorted(root.glob("*/*.jpg"))
    images = np.empty((len(paths), *size), dtype=np.uint8)
    started = time.perf_counter()
    for row, path in enumerate(paths):
        with Image.open(path) as image:
            images[row] = image.convert("L").resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return time.perf_counter() - started


class MemorySampler(threading.Thread):
    """Keeps the largest PSS, and anonymous memory, of this process with its children, in bytes."""

    def __init__(self, interval_seconds: float = 0.05) -> None:
        super().__init__(daemon=True)
        self.interval_seconds, self.ended = interval_seconds, threading.Event()
        self.pss = self.anonymous = 0

    def run(self) -> None:
        """Sample until `ended` is set."""
        this = psutil.Process()
        while not self.ended.wait(self.interval_seconds):
            of_each = [_rollup(process.pid) for process in (this, *this.children(recursive=True))]
            pss, anonymous = (sum(of) for of in zip(*of_each, strict=True))
            self.pss, self.anonymous = max(self.pss, pss), max(self.anonymous, anonymous)


def _rollup(pid: int) -> tuple[int, int]:
    """Return a process's PSS and the anonymous part of it, in bytes; of one that has just ended, nothing."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return 0, 0
    sizes = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
    return sizes["Pss"], sizes["Pss_Anon"]


def memory(root: Path, data: DataConfig, cache_dir: Path) -> dict[str, float]:
    """Return peaks in MiB: before, and while `root` is decoded into the empty `cache_dir` and read once."""
    before = _rollup(os.getpid())[0]
    sampler = MemorySampler()
    sampler.start()
    images = load_dataset(str(root), data=data, cache_dir=cache_dir).images
    for start in range(0, len(images), 4096):
        images[start : start + 4096].max()
    sampler.ended.set()
    sampler.join()
    found = {"before": before, "peak_pss": sampler.pss, "peak_anonymous": sampler.anonymous}
    return {name: round(value / 2**20, 1) for name, value in found.items()}


def timings(root: Path, data: DataConfig, cache_dir: Path) -> dict[str, dict[str, float]]:
    """Return wall and CPU seconds of a loop, the first and the second start, and the loop again."""
    assert data.image_size is not None
    seconds = {"plain_loop": plain_loop(root, data.image_size)}
    cpu: dict[str, float] = {}
    for name in ("first_start", "second_start"):
        started, own = time.perf_counter(), time.process_time()
        load_dataset(str(root), data=data, cache_dir=cache_dir)
        seconds[name] = time.perf_counter() - started
        cpu[f"{name}_main"] = time.process_time() - own
    get_reusable_executor().shutdown(wait=True)  # only now is the workers' time known
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu["first_start_workers"] = spent.ru_utime + spent.ru_stime
    own = time.process_time()
    seconds["plain_loop_again"] = plain_loop(root, data.image_size)
    cpu["plain_loop_again"] = time.process_time() - own
    return {"seconds": seconds, "cpu_seconds": cpu}


def main() -> None:
    """Run the comparison in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 48))
    options = parser.parse_args()
    data = DataConfig(image_size=(options.size[0], options.size[1]))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        write_images(root, options.images, options.side)
        found = timings(root, data, Path(folder) / "cache")
        seconds = found["seconds"]
        loop = (seconds["plain_loop"] + seconds["plain_loop_again"]) / 2
        result = {
            "images": options.images,
            "cores": joblib.cpu_count(),
            "cache_mib": round(options.images * options.size[0] * options.size[1] / 2**20, 1),
            **{of: {name: round(value, 2) for name, value in each.items()} for of, each in found.items()},
            "speedup": round(loop / seconds["first_start"], 2),
            "mib": memory(root, data, Path(folder) / "another_cache"),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

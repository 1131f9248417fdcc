"""Decoding against a plain Pillow loop, and the second start from the cache.

Command: `python benchmarks/decoding.py` (writes its own JPEGs; `--images 60000 --side 56 --size 48 48`).
Prints one line of JSON: wall seconds of each and their ratio; CPU seconds of this process and of its decoding
processes (on a busy machine the honest figure: wall time on idle cores is about main + workers / cores); peak
memory of this process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
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


def main() -> None:
    """Run the comparison in a temporary folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--side", type=int, default=56)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 48))
    options = parser.parse_args()
    size = (options.size[0], options.size[1])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        write_images(root, options.images, options.side)
        seconds = {"plain_loop": plain_loop(root, size)}
        data = DataConfig(image_size=size)
        cpu: dict[str, float] = {}
        for name in ("first_start", "second_start"):
            started, own = time.perf_counter(), time.process_time()
            dataset = load_dataset(str(root), data=data, cache_dir=Path(folder) / "cache")
            seconds[name] = time.perf_counter() - started
            cpu[f"{name}_main"] = time.process_time() - own
        get_reusable_executor().shutdown(wait=True)  # only now is the workers' time known
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu["first_start_workers"] = spent.ru_utime + spent.ru_stime
        own = time.process_time()
        seconds["plain_loop_again"] = plain_loop(root, size)
        cpu["plain_loop_again"] = time.process_time() - own
        loop = (seconds["plain_loop"] + seconds["plain_loop_again"]) / 2
        result = {
            "images": len(dataset.labels),
            "cores": joblib.cpu_count(),
            "cache_mib": round(dataset.images.nbytes / 2**20, 1),
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "cpu_seconds": {name: round(value, 2) for name, value in cpu.items()},
            "speedup": round(loop / seconds["first_start"], 2),
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

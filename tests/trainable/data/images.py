"""Small image files for tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def grey(seed: int, height: int = 12, width: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8))


def colour(seed: int, height: int = 12, width: int = 10) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def save(image: Image.Image, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def class_folders(root: Path, counts: dict[str, int], *, of=grey) -> Path:
    """Write `counts[name]` images into each folder `root/name`."""
    for number, (name, count) in enumerate(counts.items()):
        for i in range(count):
            save(of(1000 * number + i), root / name / f"{i:03d}.png")
    return root

"""The floor that every trial has to beat: multinomial logistic regression on raw pixels, on a search's split.

python -m benchmarks.logistic_baseline DATA --image-size 48x48
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.metrics import Metrics, confusion_matrix
from tailtune.commands.options import image_size
from trainable.config import DataConfig
from trainable.data.dataset import ImageDataset
from trainable.data.load import load_dataset
from trainable.data.split import make_split


def pixels(dataset: ImageDataset, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the images at `positions` as rows of numbers in [0, 1], `(N, H * W * C)`."""
    rows = dataset.images[positions].reshape(len(positions), -1)
    return rows.astype(np.float32) / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--image-size", metavar="HxW")
    parser.add_argument("--resize", default="pad")
    parser.add_argument("--seed", type=int, default=0, help="of the split, as in `tailtune search`")
    parser.add_argument("--max-iter", type=int, default=300)
    parser.add_argument("--c", type=float, default=1.0, help="inverse strength of the L2 penalty")
    options = parser.parse_args()

    data = DataConfig(image_size=image_size(options.image_size), resize=options.resize)
    cache = Path(os.environ.get("TAILTUNE_CACHE", Path(tempfile.gettempdir()) / "tailtune-baseline"))
    dataset = load_dataset(options.data, data=data, cache_dir=cache)
    split = make_split(dataset, seed=options.seed)
    start = time.perf_counter()
    model = make_pipeline(
        StandardScaler(with_std=False), LogisticRegression(C=options.c, max_iter=options.max_iter)
    )
    model.fit(pixels(dataset, split.train), dataset.labels[split.train])
    predictions = model.predict(pixels(dataset, split.val))
    confusion = confusion_matrix(dataset.labels[split.val], predictions, dataset.num_classes)
    metrics = Metrics.from_confusion(confusion, dataset.class_counts(split.train))
    print(
        f"macro-F1 {metrics.macro_f1:.3f}, accuracy {metrics.accuracy:.3f} on {len(split.val)} "
        f"validation images, {dataset.num_classes} classes, fitted in {time.perf_counter() - start:.0f} s"
    )


if __name__ == "__main__":
    main()

"""How much a random split flatters where images come in near-copies: random against grouped, one cheap model.

python -m benchmarks.split_leak DATA --group-by REGEX --image-size 24x24
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from analysis.metrics import Metrics, confusion_matrix
from benchmarks.logistic_baseline import pixels
from tailtune.commands.options import image_size
from trainable.config import DataConfig
from trainable.data.load import load_dataset
from trainable.data.split import make_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--group-by", required=True)
    parser.add_argument("--image-size", metavar="HxW", default="24x24")
    options = parser.parse_args()
    cache = Path(os.environ.get("TAILTUNE_CACHE", Path(tempfile.gettempdir()) / "tailtune-baseline"))
    models = {
        "nearest neighbour": KNeighborsClassifier(1),
        "logistic regression": LogisticRegression(C=0.01, max_iter=60),
    }
    for title, group_by in (("random", None), ("grouped", options.group_by)):
        data = DataConfig(image_size=image_size(options.image_size), group_by=group_by)
        dataset = load_dataset(options.data, data=data, cache_dir=cache)
        split = make_split(dataset, seed=0)
        train = pixels(dataset, split.train)
        for name, model in models.items():
            model.fit(train, dataset.labels[split.train])
            found = model.predict(pixels(dataset, split.val))
            confusion = confusion_matrix(dataset.labels[split.val], found, dataset.num_classes)
            score = Metrics.from_confusion(confusion).macro_f1
            print(f"{title:<8} {name:<20} macro-F1 {score:.3f} on {len(split.val)} images", flush=True)


if __name__ == "__main__":
    main()

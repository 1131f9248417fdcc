"""Trained weights against random ones on a few thousand real images: fine-tuning, a linear probe, from scratch.

    python -m benchmarks.pretrained FOLDER --out DIR [--epochs 8] [--seeds 3] [--image-size 48x48]

FOLDER holds images in a folder per class; half of them validate. The weights are those of the extra `weights`
(EfficientNet-Lite0, ImageNet-1k), so that no hub is needed. Every arm has the same network, images, epochs and
schedule; from scratch it has a learning rate of its own, because random weights want a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from benchmarks.recipe_cells import Outcome, Scale, described, parsed, run_cells, spread
from trainable.config import TrialConfig

NETWORK = "tf_efficientnet_lite0"
ARMS: dict[str, dict[str, Any]] = {
    "from scratch": {"optimizer": {"name": "adamw", "lr": 0.004, "weight_decay": 0.02}},
    "linear probe": {
        "backbone": {"name": NETWORK, "pretrained": True},
        "frozen": "features",
        "augment": (),
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001},
    },
    "fine-tuning": {
        "backbone": {"name": NETWORK, "pretrained": True},
        "optimizer": {"name": "adamw", "lr": 0.001, "weight_decay": 0.02},
    },
}
COMMON: dict[str, Any] = {
    "backbone": NETWORK,
    "select": "last",
    "schedule": {"name": "one_cycle", "pct_start": 0.2},
    "augment": ({"name": "flip", "p": 0.5}, {"name": "crop", "padding": 4}),
}


def arm_config(arm: str, scale: Scale, seed: int) -> TrialConfig:
    """Return the configuration of a cell."""
    fixed = {"epochs": scale.epochs, "batch_size": scale.batch_size, "seed": seed}
    data = {"image_size": scale.image_size, "resize": "stretch", "validation_fraction": 0.5}
    return TrialConfig.model_validate({**COMMON, **ARMS[arm], **fixed, "data": data})


def row(arm: str, found: Outcome) -> str:
    """Return a line of the table."""
    low, high = found.interval
    return (
        f"| {arm} | {spread(found.accuracy)} | {found.macro_f1.mean():.3f} [{low:.3f}, {high:.3f}] "
        f"| {found.cpu_seconds:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    scale = parsed(__doc__, image_size="48x48", epochs=8, share=1.0, seeds=3, arguments=arguments)
    found = run_cells({arm: partial(arm_config, arm, scale) for arm in scale.chosen(ARMS)}, scale)
    print(f"\n{described(scale)} {NETWORK}.\n")
    print("| start | accuracy (seeds) | macro-F1 [95 %] | CPU seconds |\n|---|---:|---:|---:|")
    for arm, outcome in found.items():
        print(row(arm, outcome))


if __name__ == "__main__":
    main()

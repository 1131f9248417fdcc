"""A trained model as files that need no tailtune to be read: weights, configuration, preprocessing."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
from torch import nn

from analysis.errors import TailtuneError
from trainable.backbones import build_backbone
from trainable.checkpoint import load_weights
from trainable.config import TrialConfig

PREPROCESSING = "preprocessing.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Preprocessing:
    """What stands between an image file and the network; also the names that come out at the other end.

    Attributes:
        image_size: Height and width in pixels.
        resize: How an image of another size is brought to it: pad, stretch, crop or keep-scale.
        image_channels: 1 where images are decoded as grey, else 3.
        channels: Of the network's input; grey images are repeated.
        mean: Subtracted from values in [0, 1], one number for each of `channels`.
        std: Divided by after that.
        flips: Mirrorings that leave a class what it is.
        class_names: By the network's outputs.
    """

    image_size: tuple[int, int]
    resize: str
    image_channels: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: str
    class_names: tuple[str, ...]

    def to_json(self) -> bytes:
        """Return the fields as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()

    @classmethod
    def read(cls, folder: Path) -> Preprocessing:
        """Return what `to_json` wrote into `folder`.

        Raises:
            TailtuneError: If it is not there, or damaged.
        """
        try:
            data = json.loads((folder / PREPROCESSING).read_text(encoding="utf-8"))
            lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
            return cls(**{**data, **lists})
        except (OSError, ValueError, TypeError) as error:
            raise TailtuneError(f"{folder / PREPROCESSING} cannot be read: {error}") from None


def load_model(config: TrialConfig, preprocessing: Preprocessing, weights: Path) -> nn.Module:
    """Return the network of `config` with `weights`, in evaluation mode.

    Raises:
        TailtuneError: If the weights are missing, damaged or another network's.
    """
    model = build_backbone(
        config.backbone,
        len(preprocessing.class_names),
        preprocessing.image_size,
        preprocessing.channels,
        load_trained=False,
    )
    load_weights(weights, model)
    return model.eval()


def timm_layout(config: TrialConfig, preprocessing: Preprocessing, model: nn.Module) -> dict[str, Any] | None:
    """Return `config.json` of timm's local-directory layout, or None where timm would build another network.

    A changed stem keeps every weight's shape, so timm would load it without a word and predict wrongly.
    """
    if config.backbone.source != "timm":
        return None
    name = config.backbone.model_name
    args: dict[str, Any] = {"in_chans": preprocessing.channels}
    if hasattr(model, "patch_embed") and hasattr(model.patch_embed, "img_size"):
        args["img_size"] = list(preprocessing.image_size)
    num_classes = len(preprocessing.class_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = timm.create_model(name, num_classes=num_classes, **args)
    if _architecture(plain) != _architecture(model):
        return None
    height, width = preprocessing.image_size
    return {
        "architecture": name.partition(".")[0],
        "num_classes": num_classes,
        "label_names": list(preprocessing.class_names),
        "model_args": args,
        "pretrained_cfg": {
            "num_classes": num_classes,
            "input_size": [preprocessing.channels, height, width],
            "fixed_input_size": "img_size" in args,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "first_conv": plain.default_cfg.get("first_conv"),
            "classifier": plain.default_cfg.get("classifier"),
        },
    }


def _architecture(model: nn.Module) -> list[tuple[str, str]]:
    """Return each leaf with its settings, but for those that act in training only."""
    training_only = ("Dropout", "DropPath", "Identity")
    return [
        (path, repr(module))
        for path, module in model.named_modules()
        if not list(module.children()) and not type(module).__name__.startswith(training_only)
    ]

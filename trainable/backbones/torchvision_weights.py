"""torchvision's trained weights: from torch's own cache of downloads, or from a server that answers."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import torch
from huggingface_hub import constants
from torchvision.models import get_model_weights

from analysis.errors import TailtuneError
from trainable.backbones._base import Backbone

ANSWERS_SECONDS = 3.0


def torchvision_file(config: Backbone) -> Path:
    """Return the file of torchvision's weights of that name, its default ones.

    Raises:
        TailtuneError: If they are neither in torch's cache nor to be had; says how to provide them.
    """
    found = list(get_model_weights(config.model_name))
    if not found:
        raise TailtuneError(
            f"backbone.pretrained: torchvision has no trained weights for {config.name}",
            "give a file as `backbone.weights`, or start at random (--no-pretrained)",
        )
    url = str(found[-1].url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if cached.is_file():
        return cached
    problem = "the hub is switched off (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        try:
            # Ask before downloading: the download alone would wait for minutes where nothing answers.
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWERS_SECONDS).close()
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(cached), progress=False)
            return cached
        except OSError as error:
            problem = f"{type(error).__name__}: {str(error)[:100]}"
    raise TailtuneError(
        f"backbone.pretrained: the trained weights of {config.name} are not on this machine, and {problem}",
        f"download {url} and give it as `backbone.weights`, or start at random (--no-pretrained)",
    )

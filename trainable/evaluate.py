"""What a model says of images: logits, rounded to float16 at once; every number comes from what is stored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainable.precision import Precision
from trainable.tta import View

HALF_MAX = 65504.0


class HasImages(Protocol):
    """A batch: anything with normalised images `(B, C, H, W)` on the model's device."""

    @property
    def images(self) -> Tensor:
        """The images."""
        ...


def predict_logits(
    model: nn.Module,
    batches: Iterable[HasImages],
    precision: Precision,
    device: torch.device,
    views: Sequence[View] = (),
) -> NDArray[np.float16]:
    """Return logits `(N, K)` float16 of every image of `batches`, in their order.

    The model is evaluated in inference mode and left in training mode if it was. Values beyond
    float16's largest are clipped to it; NaN stays NaN, for the caller to judge. With `views`, the logits
    are the logarithms of the mean probability over the image and its views.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), precision.autocast(device):
            parts = [_fitting_logits(model, batch.images, views) for batch in batches]
    finally:
        model.train(was_training)
    return torch.cat(parts).cpu().numpy()


def _fitting_logits(model: nn.Module, images: Tensor, views: Sequence[View]) -> Tensor:
    """Return logits `(B, K)` float16, in as many parts as the device's memory demands."""
    try:
        return _logits(model, images, views).clamp(-HALF_MAX, HALF_MAX).half()
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    return torch.cat([_fitting_logits(model, half, views) for half in images.tensor_split(2)])


def _logits(model: nn.Module, images: Tensor, views: Sequence[View]) -> Tensor:
    own: Tensor = model(images).float()
    if not views:
        return own
    others = [model(view(images)).float() for view in views]
    log_probabilities = torch.log_softmax(torch.stack([own, *others]), dim=2)
    return torch.logsumexp(log_probabilities, dim=0) - math.log(1 + len(views))


def mean_cross_entropy(logits: NDArray[np.float16], targets: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of `targets` `(N,)` under stored `logits` `(N, K)`."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_normaliser = np.log(np.exp(z).sum(axis=1))
    return float((log_normaliser - z[np.arange(len(targets)), targets]).mean())

"""What a model says of images: logits, rounded to float16 at once; every number comes from what is stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainable.precision import Precision
from trainable.tta import View

HALF_MAX = 65504.0


Correct = Callable[[Tensor, int], Tensor]
"""Corrects logits `(V, B, K)` of V views of B images, the first of which is at the given place among all."""


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
    correct: Correct | None = None,
) -> NDArray[np.float16]:
    """Return logits `(N, K)` float16 of every image of `batches`, in their order.

    The model is evaluated in inference mode and left in training mode if it was. Values beyond
    float16's largest are clipped to it; NaN stays NaN, for the caller to judge. With `views`, the logits
    are the logarithms of the mean probability over the image and its views, each corrected by `correct`.
    """
    was_training = model.training
    parts: list[Tensor] = []
    model.eval()
    try:
        with torch.inference_mode(), precision.autocast(device):
            for batch in batches:
                seen = _seen(model, batch.images, views)
                if correct is not None:
                    seen = correct(seen, sum(len(part) for part in parts))
                parts.append(_joined(seen).clamp(-HALF_MAX, HALF_MAX).half())
    finally:
        model.train(was_training)
    return torch.cat(parts).cpu().numpy()


def _seen(model: nn.Module, images: Tensor, views: Sequence[View]) -> Tensor:
    """Return float32 logits `(V, B, K)` of images and their views, in as many parts as memory demands."""
    try:
        own: Tensor = model(images).float()
        return torch.stack([own, *(model(view(images)).float() for view in views)])
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    return torch.cat([_seen(model, half, views) for half in images.tensor_split(2)], dim=1)


def _joined(logits: Tensor) -> Tensor:
    """Return `(B, K)` of V views `(V, B, K)`: one's own logits, else the logarithm of the mean probability."""
    if len(logits) == 1:
        return logits[0]
    return torch.logsumexp(torch.log_softmax(logits, dim=2), dim=0) - math.log(len(logits))


def mean_cross_entropy(logits: NDArray[np.float16], targets: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of `targets` `(N,)` under stored `logits` `(N, K)`."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_normaliser = np.log(np.exp(z).sum(axis=1))
    return float((log_normaliser - z[np.arange(len(targets)), targets]).mean())

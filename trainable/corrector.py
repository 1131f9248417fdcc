"""A trial's post-hoc correction: fitted after an epoch, applied to its logits, carried by its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.out_of_fold import best_strengths, dealt
from trainable.backbones.taps import classifier_of
from trainable.data.dataset import ImageDataset
from trainable.evaluate import HALF_MAX
from trainable.posthoc import Classifier, Correction, FittedCorrection
from trainable.seeding import derived_seed


@dataclass(frozen=True)
class Corrected:
    """The corrections of one epoch.

    Attributes:
        tau: Strength of what the saved weights carry.
        whole: That correction.
        parts: The correction of each part of the validation images, `(P, K)`.
        part: Part of each validation image, `(N,)`.
    """

    tau: float
    whole: Correction
    parts: Correction
    part: NDArray[np.int64]

    def logits(self, raw: NDArray[np.float16]) -> NDArray[np.float16]:
        """Return the validation logits `(N, K)` as they are judged: each image corrected by its part's."""
        return self(torch.from_numpy(raw).float()[None], 0)[0].clamp(-HALF_MAX, HALF_MAX).half().numpy()

    def __call__(self, logits: Tensor, start: int) -> Tensor:
        """Return logits `(V, B, K)` of the B images from `start` on, corrected."""
        part = self.part[start : start + logits.shape[1]]
        scale = torch.from_numpy(self.parts.scale[part]).to(logits)
        offset = torch.from_numpy(self.parts.offset[part]).to(logits)
        return logits * scale + offset

    @contextmanager
    def carried_by(self, model: nn.Module) -> Iterator[None]:
        """Let the last layer of `model` make corrected logits inside; then it is as it was, bit for bit."""
        layer = classifier_of(model)
        assert layer is not None, "refused when the configuration was made"
        kept = {key: value.clone() for key, value in layer.state_dict().items()}
        scale, offset = (
            torch.from_numpy(row).to(layer.weight) for row in (self.whole.scale, self.whole.offset)
        )
        with torch.no_grad():
            layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
            if layer.bias is not None:
                layer.bias.mul_(scale).add_(offset)
        try:
            yield
        finally:
            layer.load_state_dict(kept)


def correct(
    config: FittedCorrection,
    classifier: Classifier,
    raw: NDArray[np.float16],
    dataset: ImageDataset,
    val: NDArray[np.int64],
    seed: int,
) -> Corrected:
    """Return the corrections of an epoch.

    Args:
        config: The correction; its strength is fitted where it names none.
        classifier: Of the evaluated model.
        raw: Its validation logits, `(N, K)`.
        dataset: Labels and groups.
        val: Positions of the validation images, `(N,)`.
        seed: Of the split: it deals the validation images into parts.
    """
    if config.tau is not None or not np.isfinite(raw).all():
        tau = config.tau or 0.0
        whole = config.correction(tau, classifier)
        return Corrected(tau, whole, _stacked([whole]), np.zeros(len(val), dtype=np.int64))
    units = val if dataset.groups is None else dataset.groups[val]
    part = dealt(dataset.labels[val], units, derived_seed(seed, "posthoc") % 2**32)
    z = raw.astype(np.float32)

    def corrected(tau: float) -> NDArray[np.floating]:
        found = config.correction(tau, classifier)
        return z * found.scale.astype(np.float32) + found.offset.astype(np.float32)

    taus, tau = best_strengths(dataset.labels[val], corrected, config.strengths, part)
    parts = _stacked([config.correction(float(each), classifier) for each in taus])
    return Corrected(tau, config.correction(tau, classifier), parts, part)


def _stacked(parts: Sequence[Correction]) -> Correction:
    return Correction(np.stack([one.scale for one in parts]), np.stack([one.offset for one in parts]))


def classifier_in(model: nn.Module, class_prior: NDArray[np.float64], num_train: int) -> Classifier:
    """Return what a correction may know of the last layer of `model` and of the images it was trained on."""
    layer = classifier_of(model)
    assert layer is not None, "refused when the configuration was made"
    weight = layer.weight.detach().double().flatten(1).cpu()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu().numpy()
    return Classifier(weight.norm(dim=1).numpy(), bias, class_prior, 0.5 / num_train)

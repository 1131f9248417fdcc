"""The picture operations of AutoAugment and its successors, on batches, and their application by choice.

Reference: Cubuk et al. 2018, arXiv 1805.09501, table 6; magnitudes and details as in torchvision and PIL.
Deviations: values stay continuous between operations where PIL rounds to whole grey levels, and what
geometry brings in from outside is mid-grey, as in the authors' code (torchvision: black).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainable.augment.pipeline import warped

Function = Callable[[Tensor, Tensor], Tensor]
"""From images `(N, C, H, W)` in [0, 1] and an amount for each `(N,)` to such images."""

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Magnitudes:
    """What strengths from 0 to 1 mean for one operation.

    Attributes:
        weakest: Amount at strength 0.
        strongest: Amount at strength 1.
        signed: Whether the amount is negated half of the time.
    """

    weakest: float = 0.0
    strongest: float = 0.0
    signed: bool = False


def applied(
    images: Tensor, names: Sequence[str], strengths: Tensor, signs: Tensor, space: Mapping[str, Magnitudes]
) -> Tensor:
    """Return `images` after one operation each; an operation runs once for all images that have it.

    Args:
        images: `(B, C, H, W)` in [0, 1]; overwritten.
        names: B names of `OPERATIONS`, on the host, so that nothing is read back from the device.
        strengths: `(B,)` in [0, 1].
        signs: `(B,)` of -1 or 1.
        space: The amounts that strengths mean, by name.
    """
    array = np.asarray(names)
    for name in sorted(set(names) - {"identity"}):
        rows = torch.from_numpy(np.flatnonzero(array == name)).to(images.device, non_blocking=True)
        law = space[name]
        amount = law.weakest + (law.strongest - law.weakest) * strengths[rows]
        amount = amount * signs[rows] if law.signed else amount
        images[rows] = OPERATIONS[name](images[rows], amount).clamp_(0.0, 1.0)
    return images


def random_signs(rng: np.random.Generator, count: int, device: torch.device) -> Tensor:
    """Return `(count,)` of -1 or 1."""
    return on_device(rng.choice(np.array([-1.0, 1.0]), count), device)


def on_device(values: NDArray[np.float64], device: torch.device) -> Tensor:
    """Return `values` as float32 on `device`, without waiting for it."""
    return torch.from_numpy(values.astype(np.float32)).to(device, non_blocking=True)


def _affine(images: Tensor, rows: Sequence[Sequence[float | Tensor]]) -> Tensor:
    matrices = torch.zeros(len(images), 3, 3, device=images.device)
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            matrices[:, i, j] = entry
    size = (images.shape[2], images.shape[3])
    return warped(images - 0.5, matrices, size).add_(0.5)


def shear_x(images: Tensor, amount: Tensor) -> Tensor:
    """Shift rows by `amount` pixels for each pixel of height, about the centre."""
    return _affine(images, [[1.0, amount, 0.0], [0.0, 1.0, 0.0]])


def shear_y(images: Tensor, amount: Tensor) -> Tensor:
    """Shift columns by `amount` pixels for each pixel of width, about the centre."""
    return _affine(images, [[1.0, 0.0, 0.0], [amount, 1.0, 0.0]])


def translate_x(images: Tensor, amount: Tensor) -> Tensor:
    """Move by `amount` of the width, cut to whole pixels."""
    return _affine(images, [[1.0, 0.0, -(amount * images.shape[3]).trunc()], [0.0, 1.0, 0.0]])


def translate_y(images: Tensor, amount: Tensor) -> Tensor:
    """Move by `amount` of the height, cut to whole pixels."""
    return _affine(images, [[1.0, 0.0, 0.0], [0.0, 1.0, -(amount * images.shape[2]).trunc()]])


def rotate(images: Tensor, amount: Tensor) -> Tensor:
    """Turn counter-clockwise by `amount` degrees."""
    angle = amount * (math.pi / 180.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _affine(images, [[cos, -sin, 0.0], [sin, cos, 0.0]])


def _blend(degenerate: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    """Return the line through `degenerate` (amount -1) and `images` (0)."""
    return degenerate + (1.0 + amount)[:, None, None, None] * (images - degenerate)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images
    red, green, blue = (weight * images[:, i : i + 1] for i, weight in enumerate(_LUMA))
    return red + green + blue


def brightness(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with black."""
    return _blend(torch.zeros((), device=images.device), images, amount)


def colour(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the grey image (saturation)."""
    return _blend(_grey(images), images, amount)


def contrast(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the image's mean grey."""
    return _blend(_grey(images).mean(dim=(1, 2, 3), keepdim=True), images, amount)


def sharpness(images: Tensor, amount: Tensor) -> Tensor:
    """Blend with the image smoothed by PIL's 3x3 filter; the border keeps its values."""
    if min(images.shape[2:]) < 3:
        return images
    # The filter is ones with 5 in the middle, over 13: sums of neighbours are faster than a convolution.
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = around.add_(images[:, :, 1:-1, 1:-1], alpha=4.0).div_(13.0)
    return _blend(smooth, images, amount)


def posterize(images: Tensor, amount: Tensor) -> Tensor:
    """Keep the first `amount` bits of each value, at least one."""
    step = torch.exp2(8.0 - amount.round().clamp(min=1.0))[:, None, None, None]
    return _levels(images).div(step).floor() * step / 255.0


def solarize(images: Tensor, amount: Tensor) -> Tensor:
    """Invert values from `amount` on."""
    return torch.where(images >= amount[:, None, None, None], 1.0 - images, images)


def invert(images: Tensor, amount: Tensor) -> Tensor:
    """Turn into the negative; `amount` does not matter."""
    return 1.0 - images


def auto_contrast(images: Tensor, amount: Tensor) -> Tensor:
    """Stretch each channel to the whole range; one of a single value stays. `amount` does not matter."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp(min=1e-6), images)


def equalize(images: Tensor, amount: Tensor) -> Tensor:
    """Flatten each channel's histogram, as PIL does with its whole numbers; `amount` does not matter."""
    values = _levels(images).long().flatten(2).flatten(0, 1)
    histogram = torch.zeros(len(values), 256, dtype=torch.long, device=images.device)
    histogram.scatter_add_(1, values, torch.ones_like(values))
    largest = histogram.gather(1, values.amax(dim=1, keepdim=True))
    step = (values.shape[1] - largest) // 255
    before = histogram.cumsum(1) - histogram
    table = ((before + step // 2) // step.clamp(min=1)).clamp(0, 255)
    mapped = torch.where(step > 0, table.gather(1, values), values)
    return mapped.view(images.shape).to(images.dtype) / 255.0


def _levels(images: Tensor) -> Tensor:
    """Return the nearest whole grey levels, 0 to 255."""
    return (images * 255.0).round()


OPERATIONS: Mapping[str, Function] = {
    function.__name__: function
    for function in (
        *(shear_x, shear_y, translate_x, translate_y, rotate),
        *(brightness, colour, contrast, sharpness),
        *(posterize, solarize, invert, auto_contrast, equalize),
    )
}

GEOMETRIC_SPACE: Mapping[str, Magnitudes] = {
    "shear_x": Magnitudes(0.0, 0.3, signed=True),
    "shear_y": Magnitudes(0.0, 0.3, signed=True),
    "translate_x": Magnitudes(0.0, 150 / 331, signed=True),
    "translate_y": Magnitudes(0.0, 150 / 331, signed=True),
    "rotate": Magnitudes(0.0, 30.0, signed=True),
}

COLOUR_SPACE: Mapping[str, Magnitudes] = {
    "brightness": Magnitudes(0.0, 0.9, signed=True),
    "colour": Magnitudes(0.0, 0.9, signed=True),
    "contrast": Magnitudes(0.0, 0.9, signed=True),
    "sharpness": Magnitudes(0.0, 0.9, signed=True),
    "posterize": Magnitudes(8.0, 4.0),
    "solarize": Magnitudes(1.0, 0.0),
    "auto_contrast": Magnitudes(),
    "equalize": Magnitudes(),
}

"""Brightness, contrast, saturation and hue at once: each is linear in the channels, and so is their product."""

from __future__ import annotations

import math
from functools import cache
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from trainable.augment._base import AUGMENT, Colour, Draw, RareBoost
from trainable.component import Range

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), as PIL and torchvision take them."""


@AUGMENT.add
class ColourJitter(RareBoost, Colour):
    """Change brightness, contrast, saturation and hue by random amounts, as torchvision's `ColorJitter`.

    Factors are uniform in [1 - x, 1 + x]. Deviations, which keep it one matrix per image: contrast turns
    about mid-grey and not about the image's own mean; hue rotates the plane of equal luma (by up to `hue`
    turns either way) and not HSV's; the order is fixed (hue, saturation, contrast, brightness) and the
    result is clipped once. A grey image knows only brightness and contrast.
    """

    name: Literal["colour_jitter"] = "colour_jitter"
    brightness: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.5)] = 0.2
    contrast: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.5)] = 0.2
    saturation: Annotated[float, Field(ge=0.0, le=1.0), Range(0.0, 0.5)] = 0.2
    hue: Annotated[float, Field(ge=0.0, le=0.5), Range(0.0, 0.1)] = 0.0

    @property
    def inactive(self) -> bool:
        """True where all four are 0."""
        return self.brightness == self.contrast == self.saturation == self.hue == 0.0

    def matrix(self, draw: Draw, channels: int) -> Tensor:
        """Return the product of the four."""
        brightness = self._factor(draw, self.brightness)
        contrast = self._factor(draw, self.contrast)
        linear = torch.eye(channels, device=draw.device).expand(draw.batch_size, channels, channels)
        if channels == 3:
            linear = self._chroma(draw)
        linear = (brightness * contrast)[:, None, None] * linear
        shift = (brightness * (1.0 - contrast) * 0.5)[:, None, None].expand(-1, channels, 1)
        return torch.cat((linear, shift), dim=2)

    def _factor(self, draw: Draw, strength: float) -> Tensor:
        return 1.0 + draw.uniform(-1.0, 1.0) * self.boosted(strength, draw, 1.0)

    def _chroma(self, draw: Draw) -> Tensor:
        """Return `(B, 3, 3)`: luma kept, the colour around it scaled (saturation) and turned (hue).

        With u the grey axis and n the luma weights, P = u nᵀ projects on grey along the plane of equal
        luma, and Q = I - P on that plane. In it, J turns by a right angle: J² = -Q.
        """
        saturation = self._factor(draw, self.saturation)[:, None, None]
        angle = (draw.uniform(-1.0, 1.0) * self.boosted(self.hue, draw, 0.5) * (2 * math.pi))[:, None, None]
        grey, plane, quarter = _chroma_parts(draw.device)
        return grey + saturation * (torch.cos(angle) * plane + torch.sin(angle) * quarter)


@cache
def _chroma_parts(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return P, Q and J of `ColourJitter._chroma`, each `(3, 3)`."""
    luma = torch.tensor(_LUMA, dtype=torch.float64)
    grey = torch.ones(3, 1, dtype=torch.float64) * luma
    plane = torch.eye(3, dtype=torch.float64) - grey
    first = torch.linalg.qr(plane)[0][:, :2]
    quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    quarter = first @ quarter_turn @ first.T @ plane
    return grey.float().to(device), plane.float().to(device), quarter.float().to(device)

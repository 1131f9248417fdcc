"""In which number format a trial trains: fp32, bf16, or fp16 with a gradient scaler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from trainable.small_maps import SmallMapConv2d

PrecisionName = Literal["fp32", "bf16", "fp16"]
MANY_OUTPUTS = 5e10
"""Of depthwise convolutions on a GPU, until channels-last kernels have made up for being compiled: 1.6 to 8e10
where it was measured (`benchmarks/layout_on_gpu.py`, bf16 in both layouts), from a MobileNetV3 to an
EfficientNet-B0."""


@dataclass(frozen=True)
class Precision:
    """A number format and a memory layout, chosen once for a trial.

    Attributes:
        name: `fp32`, `bf16` or `fp16`.
        channels_last: Whether images and convolutions are laid out channels-last.
    """

    name: PrecisionName
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images and of the model's weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device, *, caches: bool = True) -> AbstractContextManager[None]:
        """Return the context in which forward passes run; `caches` keeps weights that were converted in it."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(device.type, dtype=dtype, enabled=self.name != "fp32", cache_enabled=caches)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing unless the format is fp16."""
        return torch.amp.GradScaler(device.type, enabled=self.name == "fp16")


def wants_channels_last(
    model: nn.Module,
    image_size: tuple[int, int],
    channels: int,
    device: torch.device,
    num_images: int,
    name: PrecisionName = "fp32",
) -> bool:
    """Return whether convolutions of `model` are best laid out channels-last: not in short trials on a GPU.

    For depthwise ones cuDNN compiles kernels when a process first sees a shape: four to fifteen seconds for an
    EfficientNet-B0 or a MobileNet, where torch's own contiguous kernels take one at most. Later on those are
    slower, by a twentieth to a half (`benchmarks/layout_on_gpu.py`): `MANY_OUTPUTS` says when that has come to
    as much. A network that turns its maps round itself, as ConvNeXts do for their normalisation, comes to the
    same kernels either way; so do all in fp16.

    Args:
        model: On the CPU, in either mode.
        image_size: Height and width that it will see.
        channels: Of its input.
        device: Where it will compute.
        num_images: That it will be shown, each as often as it is shown.
        name: The number format in which it will compute.
    """
    if device.type != "cuda" or name == "fp16":
        return True
    seen = [
        (conv, images) for _, conv, images in _convolutions(model, image_size, channels) if is_depthwise(conv)
    ]
    outputs = sum(
        images.numel() * conv.out_channels // (conv.in_channels * prod(conv.stride)) for conv, images in seen
    )
    contiguous = all(images.is_contiguous() for _, images in seen)
    return not seen or not contiguous or num_images * outputs >= MANY_OUTPUTS


def gpu_computes_bf16() -> bool:
    """Return whether the GPU computes bfloat16 itself; torch, if not told otherwise, counts emulation too."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def keep_in_fp32(model: nn.Module, image_size: tuple[int, int], channels: int) -> list[str]:
    """Have the convolutions that bf16 spoils on a CPU compute in fp32 whatever the format; return their names.

    - Depthwise ones: torch 2.14 takes up to three times as long for their gradients in bf16, so that networks
      of depthwise and pointwise convolutions were slower in bf16 than in fp32 (`benchmarks/depthwise_fp32.py`).
    - Those over maps of one pixel (kernel above 1): torch 2.14's bf16 gradient of their weights reads memory
      that nobody has written: it is NaN or huge now and then, and never the same twice
      (`benchmarks/bf16_single_pixel.py` shows it). Where the gradient is a product, it is sound.

    Args:
        model: On a CPU, in either mode.
        image_size: Height and width that it will see.
        channels: Of its input.
    """
    found = {
        name: conv
        for name, conv, images in _convolutions(model, image_size, channels)
        if not isinstance(conv.forward, partial)
        and max(conv.kernel_size) > 1
        and (is_depthwise(conv) or (images.shape[2:].numel() == 1 and not _multiplies_in_bf16(conv)))
    }
    for conv in found.values():
        conv.forward = partial(_in_fp32, conv.forward)  # type: ignore[method-assign]  # of this instance alone
    return sorted(found)


def as_they_were(model: nn.Module, names: Iterable[str]) -> None:
    """Have the convolutions of these names, which `keep_in_fp32` returned, follow the format again."""
    for name in names:
        del model.get_submodule(name).forward  # the instance's own


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Return whether each channel of the input is convolved by itself."""
    return conv.groups == conv.in_channels > 1


def _multiplies_in_bf16(conv: nn.Conv2d) -> bool:
    return isinstance(conv, SmallMapConv2d) and torch.bfloat16 in conv.formats


def _convolutions(
    model: nn.Module, image_size: tuple[int, int], channels: int
) -> list[tuple[str, nn.Conv2d, Tensor]]:
    """Return each convolution of `model`, by name, with what it sees as the model is shown a blank image."""
    seen: list[tuple[str, nn.Conv2d, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda conv, inputs, name=name: seen.append((name, conv, inputs[0])))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    was_training = model.training
    try:
        model.eval()
        with torch.no_grad():
            model(torch.zeros(1, channels, *image_size))
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen


def _in_fp32(forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(images.float())

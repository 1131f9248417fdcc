"""What a network costs: parameters, and floating-point operations for one image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, trained or frozen, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_flops(model: nn.Module, image_size: tuple[int, int], channels: int) -> int:
    """Return the floating-point operations of one image's forward pass in evaluation mode.

    A multiply-add counts as two; convolutions and matrix products are counted, elementwise work is not
    (as in `torch.utils.flop_counter`). The model is left as it was: mode, statistics, random state.

    Args:
        model: The network.
        image_size: Height and width in pixels.
        channels: Of the input.
    """
    modes = [(module, module.training) for module in model.modules()]
    first = next(model.parameters())
    image = torch.zeros(1, channels, *image_size, device=first.device, dtype=first.dtype)
    counter = FlopCounterMode(display=False)
    # The counter's hooks trip over a parameter that is itself a layer's input (CaiT's class token).
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval().requires_grad_(False)
        # Attention by its matrix products: the counter knows the fused operators of GPUs, not the CPU's.
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
            model(image)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, training in modes:
            module.training = training
    return int(counter.get_total_flops())

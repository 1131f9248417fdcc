"""A fault of torch's CPU kernels that `trainable/precision.py` works around: run it after an upgrade of torch.

    python benchmarks/bf16_single_pixel.py

Prints, for square maps of 1 to 8 pixels, in how many of 200 runs the bf16 weight gradient of a 3x3
convolution with stride 2 is further than 5 % from the fp32 one.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def weight_gradient(side: int, *, bf16: bool) -> torch.Tensor:
    """Return the gradient of a fixed loss with respect to a fixed 3x3 kernel."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 192, 3, 3, generator=generator).requires_grad_()
    images = torch.randn(16, 192, side, side, generator=generator)
    litter = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for size in (64, 1000, 20000, 300000)]
    del litter  # the allocator hands it out again, unwritten
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        out = functional.conv2d(images, weight, stride=2, padding=1)
    out.float().mul(torch.randn(out.shape, generator=generator)).sum().backward()
    assert weight.grad is not None
    return weight.grad


def main() -> None:
    """Print one line a map size."""
    print(f"torch {torch.__version__}")
    for side in (1, 2, 3, 4, 8):
        exact = weight_gradient(side, bf16=False)
        errors = [float((weight_gradient(side, bf16=True) - exact).norm() / exact.norm()) for _ in range(200)]
        wrong = sum(not error < 0.05 for error in errors)
        print(f"{side}x{side}: {wrong} of {len(errors)} wrong")


if __name__ == "__main__":
    main()

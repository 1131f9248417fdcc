"""The families of networks as a Markdown page: `python -m trainable.backbones.page > docs/backbones.md`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from trainable.backbones._base import Backbone
from trainable.backbones.cost import count_flops, count_parameters
from trainable.backbones.families import FAMILIES, Family
from trainable.backbones.sources import fitted

SIZES = ((32, 32), (60, 80))
NUM_CLASSES = 100
SPEEDS = Path(__file__).parents[2] / "benchmarks" / "backbone_speed.csv"
"""Measured by `benchmarks/backbone_speed.py`."""

HEAD = """# Networks

Written by `python -m trainable.backbones.page > docs/backbones.md`; a test fails when a family is missing or
figures have changed.

A name is timm's (`resnet18`, with a pretrained tag `convnext_base.fb_in22k`), torchvision's
(`torchvision:googlenet`) or one of this package (`wideresnet-40-10`; the form of its numbers is checked).
Every classifier of timm and torchvision works by its name; listed are the families that the sources of this
project name. Parameters at {num_classes} classes; floating-point operations of one image's forward pass
(a multiply-add counts as two), with the stem or the patches fitted to the image (`backbone.stem: auto`);
training images a second in fp32 on two CPU cores, from
[backbone_speed.csv](../benchmarks/backbone_speed.csv), which says when and how.

**Small images.** Up to 80 pixels (shorter side) a convolutional network keeps more of the picture: its stem has
stride 1 up to 32 pixels, stride 2 above, and no pool. A plain transformer (ViT, CaiT) takes the largest patch
that divides height and width and leaves 64 patches; Swin takes patches of 1 pixel up to 32 and of 2 above, in
windows of 4 and 5 patches. Only strides, pools and patches change, so trained weights stay (those of patches
and positions are resampled). VGG has no such stem: its five pools bring 32 pixels to 1.

**Options.** `backbone.attention: se` or `cbam` puts attention into every block of timm's ResNets and ResNeXts.
`backbone.fusion: concat` or `sum` has the classifier see the pooled features of every stage, in all listed
networks but those of torchvision. Where a network has no place for an option, the configuration is refused.

| family | name | parameters | FLOPs at 32x32 | FLOPs at 60x80 | images/s at 32x32 | at 60x80 | reference |
|---|---|---:|---:|---:|---:|---:|---|
"""


def page() -> str:
    """Return the page."""
    return HEAD.format(num_classes=NUM_CLASSES) + "\n".join(rows_of(FAMILIES, read_speeds(SPEEDS))) + "\n"


def read_speeds(path: Path) -> dict[str, tuple[float, float]]:
    """Return the training images a second of each network at `SIZES`; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = csv.reader(line for line in lines[2:] if line)
    return {name: (float(first), float(second)) for name, first, second in rows}


def rows_of(families: Sequence[Family], speeds: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return the lines of the table."""
    return [page_row(family, position, speeds) for family in families for position in range(len(family.names))]


def page_row(family: Family, position: int, speeds: Mapping[str, tuple[float, float]]) -> str:
    """Return the line of one member; the first speaks for the family."""
    name = family.names[position]
    parameters, flops = cost(name)
    millions = " | ".join(f"{value / 1e6:,.0f} M" for value in flops)
    about = f"{family.reference}{f'; {family.note}' if family.note else ''}" if position == 0 else ""
    first = family.name if position == 0 else ""
    seen = " | ".join(map(_images, speeds[name])) if name in speeds else "not measured | "
    return f"| {first} | `{name}` | {parameters / 1e6:,.2f} M | {millions} | {seen} | {about} |"


def _images(a_second: float) -> str:
    return f"{a_second:,.0f}" if a_second >= 10 else f"{a_second:.1f}"


def cost(name: str) -> tuple[int, list[int]]:
    """Return the parameters at the first of `SIZES`, and the operations at each; found without memory."""
    flops, parameters = [], 0
    for size in SIZES:
        with torch.device("meta"):
            model = fitted(Backbone(name=name), NUM_CLASSES, size, 3, None)
            flops.append(count_flops(model, size, 3))
        parameters = parameters or count_parameters(model)
    return parameters, flops


if __name__ == "__main__":
    print(page(), end="")

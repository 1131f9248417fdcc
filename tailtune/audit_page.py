"""An audit as one HTML page that asks nothing of the network: tables, bars, and pictures inside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from analysis.audit import Audit
    from trainable.data.dataset import ImageDataset

SIDE = 56
"""Of a thumbnail, in pixels."""
PER_CLASS = 8
MOST_SETS = 60
"""Sets of copies that are shown; the JSON document has all."""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" 
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #1c2430; background: #fff }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2.2rem }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ padding: .25rem .6rem .25rem 0; text-align: left;
  vertical-align: middle; border-bottom: 1px solid #e3e7ec }} td.n {{ text-align: right;
  font-variant-numeric: tabular-nums }}
.bar {{ background: #3a6ea5; height: .7rem; border-radius: 2px; min-width: 1px }}
.named td:not(:last-child) {{ white-space: nowrap }}
nav a {{ color: #3a6ea5; margin-right: 1rem }}
.sets {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem }}
img {{ image-rendering: pixelated; display: block; max-width: 100% }} figure {{ margin: 0 }}
figcaption {{ font-size: .8rem; color: #55606e; overflow-wrap: anywhere }}
.warn {{ color: #a33 }} .soft {{ color: #55606e }}
</style></head><body>
"""


def page(audit: Audit, dataset: ImageDataset) -> str:
    """Return the whole page; names and paths are escaped, pictures are PNG inside the page."""
    document = audit.to_json()
    parts = ", ".join(f"{count:,} {part}" for part, count in document["parts"].items() if count)
    groups = ", ".join(f"{count} {name}" for name, count in document["groups"].items())
    facts = [
        ("Images", f"{document['num_images']:,} ({parts})"),
        ("Classes", f"{document['num_classes']} ({groups})"),
        ("Imbalance ratio", f"{audit.imbalance_ratio:.1f} among training images"),
        ("Height", _quantiles(audit.spread["height"])),
        ("Width", _quantiles(audit.spread["width"])),
        ("Width over height", _quantiles(audit.spread["aspect"])),
        ("Channels", _channels(audit)),
        (
            "Resolvable",
            f"macro-F1 differences below {audit.resolvable:.3f} drown in noise on this validation split",
        ),
        ("Fingerprint", audit.fingerprint),
    ]
    sections = [
        _HEAD.format(title=escape(f"Audit of {audit.source}")),
        f"<h1>Audit of {escape(audit.source)}</h1>",
        '<nav><a href="#copies">Copies</a><a href="#classes">Classes</a></nav>',
        _table((), facts),
        "<h2>Suggestions</h2>",
        _table(("option", "value", "because"), [(s.option, s.value, s.reason) for s in audit.suggestions]),
        _listed("Classes not to be trusted", audit.untrusted),
        _listed("Notes", [(note,) for note in audit.notes]),
        _listed("Files left out", audit.skipped),
        _copies(audit, dataset),
        _classes(audit, dataset),
        "</body></html>\n",
    ]
    return "\n".join(sections)


def _quantiles(values: Sequence[float]) -> str:
    return f"{values[1]:g} (5 % below {values[0]:g}, 5 % above {values[2]:g})"


def _channels(audit: Audit) -> str:
    rows = zip(audit.channels["mean"], audit.channels["std"], strict=True)
    return "; ".join(f"mean {mean:.3f}, std {std:.3f}" for mean, std in rows)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table{' class=named' if head else ''}>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def _listed(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Return a section, or nothing where there are no rows."""
    return f"<h2>{escape(title)} ({len(rows)})</h2>{_table((), rows)}" if rows else ""


def _copies(audit: Audit, dataset: ImageDataset) -> str:
    if not audit.copies:
        return "<h2 id=copies>Copies</h2><p>None were found.</p>"
    figures = []
    for found in audit.copies[:MOST_SETS]:
        warnings = [
            text
            for text, holds in (
                ("several labels", found.across_labels),
                ("several parts of the split", found.across_splits),
            )
            if holds
        ]
        named = " = ".join(found.paths[:4]) + (" …" if len(found.paths) > 4 else "")
        figures.append(
            f"<figure>{_strip(dataset.images, found.positions[:PER_CLASS])}<figcaption>{found.kind}, "
            f"{len(found.paths)} images<span class=warn>{escape(''.join(f', {w}' for w in warnings))}</span>"
            f"<br>{escape(named)}</figcaption></figure>"
        )
    hidden = len(audit.copies) - len(figures)
    more = f"<p class=soft>… and {hidden} sets more: see the JSON document.</p>" if hidden else ""
    return f"<h2 id=copies>Copies ({len(audit.copies)} sets)</h2><div class=sets>{''.join(figures)}</div>{more}"


def _classes(audit: Audit, dataset: ImageDataset) -> str:
    rows = []
    most = max(audit.class_counts.values())
    order = sorted(enumerate(audit.class_counts.items()), key=lambda entry: -entry[1][1])
    for label, (name, count) in order:
        members = np.flatnonzero(dataset.labels == label)
        shown = members[np.linspace(0, len(members) - 1, min(PER_CLASS, len(members)), dtype=int)]
        each = "".join(f"<td class=n>{audit.part_counts[p][label]:,}</td>" for p in ("train", "val", "test"))
        rows.append(
            f"<tr><td>{escape(name)}</td>{each}<td style='width:12rem'><div class=bar "
            f"style='width:{100 * count / most:.1f}%'></div></td><td>{_strip(dataset.images, shown)}</td></tr>"
        )
    head = "".join(f"<th>{h}</th>" for h in ("class", "train", "val", "test", "", ""))
    return f"<h2 id=classes>Classes</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _strip(images: NDArray[np.uint8], positions: Iterable[int]) -> str:
    """Return images side by side as one picture."""
    tiles = [tile(np.asarray(images[i]), SIDE) for i in positions]
    strip = Image.new("RGB", (len(tiles) * (SIDE + 2), SIDE), "white")
    for place, picture in enumerate(tiles):
        strip.paste(picture, (place * (SIDE + 2), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" width="{strip.width}" height="{SIDE}" src="data:image/png;base64,{data}">'


def tile(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """Return `(H, W, 1 or 3)` pixels as a square picture of `side`, the shape kept."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.BILINEAR
    square = Image.new("RGB", (side, side), "white")
    square.paste(image.resize(size, how), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square

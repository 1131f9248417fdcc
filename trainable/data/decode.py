"""One image, as a viewer shows it, brought to one size as 8-bit grey or colour."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

if TYPE_CHECKING:  # this module runs in many processes, and torch takes seconds to import
    from trainable.config import Resize

MAX_PIXELS = 89_478_485
"""Larger images are refused as decompression bombs (Pillow's own bound: 256 MB of colour)."""
_SMALL = 65536
"""Bytes: a smaller JPEG is read at once and goes straight to the decoder."""
_TURNED = (b"Exif\0", b"ns.adobe.com/xap")
"""Marks of what may say that an image is to be turned."""
LARGE = 2**24
"""Pixels: larger images are shown a strip at a time, for each step over a whole one takes 4 bytes a pixel."""
_PLAIN = {"Gray": "GRAY", "YCbCr": "RGB"}
"""Colour spaces of JPEGs that need no thought, and what they become."""


def decode_image(
    source: Path | str | BinaryIO, *, image_size: tuple[int, int], resize: Resize, channels: int
) -> NDArray[np.uint8]:
    """Return one image file as `(H, W, channels)` uint8.

    Turned as its EXIF tag says, the first frame where it moves, transparency on white, 16 bits cut to 8,
    palettes and CMYK as colour.

    Args:
        source: Path or opened file.
        image_size: Height and width.
        resize: See `fit`.
        channels: 1 for grey, 3 for colour.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: If it is no image that can be shown.
    """
    with strict_pillow():
        return fit(open_image(source, image_size), image_size, resize, channels)


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Make Pillow refuse decompression bombs, and keep its other warnings about odd files quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(
    source: Path | str | BinaryIO,
    image_size: tuple[int, int] | None = None,
    before_large: Callable[[], object] | None = None,
) -> Image.Image:
    """Return the loaded image in mode L or RGB, as a viewer shows it.

    Args:
        source: Path or opened file.
        image_size: Height and width that are wanted; a JPEG is then decoded at a half, a quarter or an eighth
            of its size where that is still twice as large.
        before_large: Called before the pixels of an image of more than `LARGE` are read.
    """
    decoded = None if not isinstance(source, str | Path) else _plain_jpeg(source, image_size)
    if decoded is not None:
        return Image.fromarray(decoded)
    with Image.open(source) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels exceed {MAX_PIXELS}")
        if image_size is not None and _shrinks(image.size, image_size):
            side = 2 * max(image_size)
            image.draft(None, (side, side))  # for JPEG; others pass over it
        if before_large is not None and image.width * image.height > LARGE:
            before_large()
        if image.format != "JPEG" or {"exif", "xmp"} & {*image.info}:
            ImageOps.exif_transpose(image, in_place=True)  # a copy of a huge image would cost as much again
        if image.format == "PPM" and image.mode == "I":
            return _from_sixteen_bits(image)
        return _as_shown(image, image_size)


def _plain_jpeg(path: Path | str, image_size: tuple[int, int] | None) -> NDArray[np.uint8] | None:
    """Return the pixels of a small undamaged JPEG without EXIF, grey `(H, W)` or `(H, W, 3)`; None for others.

    Pillow's decoder is the same library; what it spends around it is three quarters of a small image's time.
    """
    with open(path, "rb", buffering=0) as file:
        content = file.read(_SMALL)
    if len(content) == _SMALL or not content.startswith(b"\xff\xd8\xff") or any(m in content for m in _TURNED):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        if space not in _PLAIN or height * width > MAX_PIXELS:
            return None
        if image_size is not None and _shrinks((width, height), image_size):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, _PLAIN[space])
    except ValueError:  # damaged: Pillow decides, and its message is the one to show
        return None
    return pixels[:, :, 0] if space == "Gray" else pixels


def _shrinks(size: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Return whether a JPEG is so much larger than `image_size` that a part of its frequencies suffices."""
    return min(size) >= 4 * max(image_size)


def _as_shown(image: Image.Image, image_size: tuple[int, int] | None) -> Image.Image:
    """Return `image` in mode L or RGB; a huge one by strips, at a fraction that is eight times `image_size`."""
    factor = 1 if image_size is None else min(image.size) // (8 * max(image_size))
    as_it_is = image.mode in ("L", "RGB", "F") and "transparency" not in image.info
    if factor < 2 or as_it_is or image.mode.startswith("I") or image.width * image.height <= LARGE:
        return _converted(image)
    height, rows = -(-image.height // factor), max(1, LARGE // 16 // image.width // factor) * factor
    shown: Image.Image | None = None
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(image.height, top + rows)))
        part = _converted(strip).reduce(factor)
        if shown is None:
            shown = Image.new(part.mode, (part.width, height))
        shown.paste(part, (0, top // factor))
    assert shown is not None
    return shown


def _converted(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode in ("L", "RGB") and "transparency" not in image.info:
        image.load()
        return image
    if mode == "1":
        return image.convert("L")
    if mode.startswith("I") or mode == "F":
        return _from_deep(image)
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        shown = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        return shown.convert("L" if mode in ("L", "LA", "La") else "RGB")
    return image.convert("RGB")


def _from_sixteen_bits(image: Image.Image) -> Image.Image:
    """Return a PGM of more than 8 bits with 8: Pillow has stretched it to 16, however dark this one is."""
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def _from_deep(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 or 32 bits a pixel with 8.

    Sixteen bits keep their high byte. Of floats and 32-bit integers no file says the range: it is taken for
    [0, 1], [0, 255], 16 or 32 bits, whichever is the first that holds the largest pixel.
    """
    pixels = np.asarray(image)
    if image.mode == "F":
        largest = float(np.nanmax(pixels))
        top = 255.0 if largest <= 1.0 else 1.0 if largest <= 255.0 else 255.0 / 65535.0
        return Image.fromarray(np.nan_to_num(pixels * top).clip(0, 255).astype(np.uint8))
    sixteen, largest = image.mode.startswith("I;16"), int(pixels.max())
    bits = 8 if sixteen or 255 < largest <= 65535 else 23 if largest > 65535 else 0
    return Image.fromarray((pixels >> bits).clip(0, 255).astype(np.uint8))


def without_colour(image: Image.Image) -> Image.Image | None:
    """Return an image in mode L or RGB as mode L, or None where a pixel has colour."""
    if image.mode == "L":
        return image
    red = image.getchannel(0)
    differs = (ImageChops.difference(red, image.getchannel(i)).getbbox() is not None for i in (1, 2))
    return None if any(differs) else red


def fit(image: Image.Image, image_size: tuple[int, int], resize: Resize, channels: int) -> NDArray[np.uint8]:
    """Return an image in mode L or RGB as `(H, W, channels)` uint8.

    Args:
        image: Of any size.
        image_size: H and W.
        resize: `stretch` changes the aspect; `pad` keeps it and fills up with the median of the image's border;
            `crop` keeps it and cuts what stands over; `keep-scale` never enlarges, so that an object's
            size stays a signal: it fills up as `pad` does, and shrinks only what would not fit.
        channels: 1 or 3.
    """
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    height, width = image_size
    if image.size == (width, height):
        return _pixels(image)
    if resize == "stretch":
        return _pixels(_scaled(image, (width, height)))
    if resize == "crop":
        return _pixels(_scaled(image, (width, height), _centre_box(image.size, (width, height))))
    return _padded(image, image_size, enlarge=resize == "pad")


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(image.height, image.width, -1)


def _scaled(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    return image.resize(size, Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)


def _centre_box(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the largest centred box in `size` that has the aspect of `wanted` (width, height)."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    across, down = wanted[0] * scale, wanted[1] * scale
    left, top = (size[0] - across) / 2, (size[1] - down) / 2
    return left, top, min(left + across, size[0]), min(top + down, size[1])


def _padded(image: Image.Image, image_size: tuple[int, int], *, enlarge: bool) -> NDArray[np.uint8]:
    height, width = image_size
    scale = min(width / image.width, height / image.height)
    if scale < 1 or enlarge:
        across = min(width, max(1, round(image.width * scale)))
        down = min(height, max(1, round(image.height * scale)))
        image = _scaled(image, (across, down))
    pixels = _pixels(image)
    if pixels.shape[:2] == image_size:
        return pixels
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    border.sort(axis=0)
    canvas = np.empty((height, width, pixels.shape[2]), dtype=np.uint8)
    canvas[:] = border[len(border) // 2]
    top, left = (height - image.height) // 2, (width - image.width) // 2
    canvas[top : top + image.height, left : left + image.width] = pixels
    return canvas

"""Many image files into one array on disk, by several processes that each write their own rows."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, as_completed, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from analysis.errors import TailtuneError
from trainable.data.cache import locked
from trainable.data.decode import fit, open_image, strict_pillow, without_colour

if TYPE_CHECKING:
    from trainable.config import Resize

Chunks = Generator["Chunk", None, None]
Progress = Callable[[int, int], None]
"""Called with images done and images in all."""

CHUNK = 256
"""Images a task: large enough to hide what a task costs, small enough for a progress bar."""
UNREAD = "cannot be read: "
"""Begins the reason of what is no fault of the image, and may pass."""
FEW = 1024
"""Below this starting processes costs more than they save."""
AHEAD = 4
"""Chunks that wait for each process, so that none has to."""
IDLE_SECONDS = 5
"""After which a process that has nothing to do goes; an orphan of a killed driver half a minute later."""


@dataclass(frozen=True)
class Geometry:
    """How every image of a set is decoded: see `decode.decode_image`."""

    image_size: tuple[int, int]
    resize: Resize
    channels: int


class ColourFoundError(Exception):
    """An image has colour, though the sample said that all are grey."""


@dataclass(frozen=True)
class Chunk:
    """What became of the rows from `start` on: those that could not be decoded, with the reason."""

    start: int
    count: int
    broken: tuple[tuple[int, str], ...]
    coloured: bool = False


def survey(
    root: Path, names: Sequence[str], image_size: tuple[int, int] | None, resize: Resize, sample: int = 256
) -> Geometry:
    """Return how to decode all files, from an evenly spaced sample.

    Args:
        root: Folder that `names` are relative to.
        names: All files.
        image_size: Height and width, or None for the sample's medians.
        resize: Passed on.
        sample: Files that are looked at.

    Raises:
        TailtuneError: If none of them can be decoded.
    """
    tried = names[:: max(1, len(names) // sample)]
    sizes: list[tuple[int, int]] = []
    grey = True
    with strict_pillow():
        for name in tried:
            path = root / name
            try:
                if image_size is None:
                    with Image.open(path) as image:
                        upright = (
                            ImageOps.exif_transpose(image) if image.getexif().get(0x0112, 1) > 4 else image
                        )
                        sizes.append((upright.height, upright.width))
                if grey:
                    grey = without_colour(open_image(path, image_size or (64, 64))) is not None
            except Exception:  # a broken file is named when it is decoded; the sample goes on without it
                continue
    if image_size is None:
        if not sizes:
            raise TailtuneError(
                f"images must be readable, but none of {len(tried)} tried is, not {root / tried[0]} either",
                "open one in a viewer: they may be truncated, or no images",
            )
        heights, widths = zip(*sizes, strict=True)
        image_size = max(4, round(statistics.median(heights))), max(4, round(statistics.median(widths)))
    return Geometry(image_size, resize, 1 if grey else 3)


def decode_chunk(array: Path, start: int, root: Path, names: Sequence[str], geometry: Geometry) -> Chunk:
    """Decode the files `names` below `root` into the rows of the `.npy` file `array` from `start` on."""
    images = np.asarray(np.lib.format.open_memmap(array, mode="r+"))  # a row of a plain array costs less
    broken: list[tuple[int, str]] = []
    with strict_pillow(), contextlib.ExitStack() as held:

        def alone() -> None:  # huge images in many processes at once would take gigabytes
            held.enter_context(locked(array.with_name("large.lock")))

        for row, name in enumerate(names, start=start):
            try:
                images[row] = _decoded(os.path.join(root, name), geometry, alone)
            except ColourFoundError:
                return Chunk(start, len(names), (), coloured=True)
            except Exception as error:  # Pillow raises anything on damaged files; each is named, none stops us
                broken.append((row, _reason(error, os.path.join(root, name))))
            finally:
                held.close()
    return Chunk(start, len(names), tuple(broken))


def _decoded(path: str, geometry: Geometry, before_large: Callable[[], None]) -> NDArray[np.uint8]:
    image = open_image(path, geometry.image_size, before_large)
    if geometry.channels == 1:
        grey = without_colour(image)
        if grey is None:
            raise ColourFoundError
        image = grey
    return fit(image, geometry.image_size, geometry.resize, geometry.channels)


def _reason(error: Exception, path: str) -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "has too many pixels, refused as a decompression bomb"
    if isinstance(error, UnidentifiedImageError):
        if os.path.getsize(path) == 0:
            return "is empty"
        return "is not an image that can be read"
    if isinstance(error, MemoryError):
        return f"{UNREAD}memory is short"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{UNREAD}{os.strerror(error.errno)}"
    text = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return text.splitlines()[0][:200]


def decode_all(
    array: Path,
    log: Path,
    root: Path,
    names: Sequence[str],
    geometry: Geometry,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[tuple[int, str]]:
    """Decode every file into its row of `array`; go on where `log` says that an earlier run stopped.

    Args:
        array: An `.npy` file of `(N, H, W, C)` uint8 that exists.
        log: One JSON line for each chunk that is done; appended to.
        root: Folder that `names` are relative to.
        names: N files.
        geometry: Of every image.
        workers: Processes; None takes what this process may use.
        progress: Called after each chunk.

    Returns:
        Rows that could not be decoded, in order, each with the reason.

    Raises:
        ColourFoundError: If `geometry` says grey and an image is not.
        TailtuneError: If a decoding process dies.
    """
    done = _done(log)
    broken = [pair for chunk in done.values() for pair in chunk.broken]
    finished = sum(chunk.count for chunk in done.values())
    starts = [start for start in range(0, len(names), CHUNK) if start not in done]
    tasks = ((array, start, root, names[start : start + CHUNK], geometry) for start in starts)
    processes = 1 if len(starts) * CHUNK <= FEW else (workers or cpu_count())
    with open(log, "a", encoding="utf-8") as lines, closing(_run(tasks, processes)) as chunks:
        for chunk in chunks:
            if chunk.coloured:
                raise ColourFoundError
            lines.write(json.dumps([chunk.start, chunk.count, chunk.broken]) + "\n")
            lines.flush()
            broken += chunk.broken
            finished += chunk.count
            if progress is not None:
                progress(finished, len(names))
    return sorted(broken)


def _run(tasks: Iterable[tuple[Path, int, Path, Sequence[str], Geometry]], processes: int) -> Chunks:
    if processes == 1:
        yield from (decode_chunk(*task) for task in tasks)
        return
    executor = get_reusable_executor(
        max_workers=processes,
        timeout=IDLE_SECONDS,
        env=dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    )
    waiting: set[Future[Chunk]] = set()
    try:
        for task in tasks:
            waiting.add(executor.submit(decode_chunk, *task))
            if len(waiting) >= AHEAD * processes:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in as_completed(waiting))
    except BrokenExecutor as error:
        raise TailtuneError(
            f"a decoding process died: {str(error).splitlines()[0]}"[:200],
            "is memory short? the next start goes on from here",
        ) from None
    finally:
        # What runs ends by itself. joblib's Parallel kills its workers instead, at times with a traceback.
        for future in waiting:
            future.cancel()


def _done(log: Path) -> dict[int, Chunk]:
    """Return the chunks that a former run finished; a torn last line does not count."""
    if not log.exists():
        return {}
    done: dict[int, Chunk] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            start, count, broken = json.loads(line)
            done[start] = Chunk(start, count, tuple((row, reason) for row, reason in broken))
        except (ValueError, TypeError):
            continue
    return done

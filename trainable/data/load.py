"""From what the user names to decoded images with labels: one way for every kind of source."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.errors import TailtuneError, UsageError, unknown_name
from trainable.data import builtin
from trainable.data.cache import FORMAT, Rows, allocate, fingerprint, forget, open_or_fill, row_blocks
from trainable.data.dataset import ImageDataset
from trainable.data.decode import fit
from trainable.data.folder import list_folder
from trainable.data.hugging_face import is_hugging_face, list_hugging_face
from trainable.data.listing import Listing, check_classes, lost_classes
from trainable.data.long_tail import cut_long_tail
from trainable.data.manifest import list_manifest
from trainable.data.npz import list_npz
from trainable.data.rare import apply_rare_classes
from trainable.data.reader import UNREAD, ColourFoundError, Geometry, Progress, decode_all, survey

if TYPE_CHECKING:
    from trainable.config import DataConfig


def load_dataset(
    source: str,
    *,
    data: DataConfig,
    cache_dir: Path,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageDataset:
    """Return the images that `source` names, decoded once into `cache_dir` and mapped from there.

    Args:
        source: A folder, a `.csv`, `.tsv` or `.parquet` manifest, an `.npz` file, or a built-in name.
        data: Which images are taken, how they are grouped and decoded; a group is what the groups of `group_by`
            (or its whole match) say, joined with the class, and what it does not match stands alone.
        cache_dir: Folder of decoded images, one folder a fingerprint.
        workers: Decoding processes; None takes what this process may use.
        progress: Called with (done, total) while images are decoded.

    Raises:
        UsageError: If `source` is nothing that is known, or `group_by` is no regular expression.
        TailtuneError: If its images, labels or groups break a law, or the cache cannot be written.
    """
    listing = select_images(find_listing(source, cache_dir=cache_dir, allow_outside=data.allow_outside), data)
    if data.verify_content:
        listing = _with_content_stamps(listing)
    key = fingerprint(
        str(FORMAT), listing.kind, str(data.image_size), data.resize, *listing.stamps, "", *listing.names
    )

    def fill(folder: Path) -> Rows:
        return _fill(folder, listing, data, workers, progress)

    cached = open_or_fill(cache_dir, key, fill)
    if _any_readable_now(listing, cached.broken):
        forget(cache_dir, key)
        cached = open_or_fill(cache_dir, key, fill)
    listing = _without_broken(listing, cached.broken, data.max_broken)
    return _dataset(listing, cached.images, key)


def find_listing(source: str, *, cache_dir: Path, allow_outside: bool = False) -> Listing:
    """Return what `source` holds, before decoding.

    Raises:
        UsageError: If it is neither a folder nor a file of a known kind nor a built-in name.
    """
    found = builtin.find_builtin(source, cache_dir)
    if found is not None:
        return found
    path = Path(source).expanduser()
    if path.is_dir() and is_hugging_face(path):
        return list_hugging_face(path, source, cache_dir)
    if path.is_dir():
        return list_folder(path, source)
    ending = path.suffix.lower()
    if path.is_file() and ending == ".npz":
        return list_npz(path, source)
    if path.is_file() and ending in (".csv", ".tsv", ".txt", ".parquet"):
        return list_manifest(path, source, allow_outside=allow_outside)
    if path.is_file():
        raise UsageError(
            f"data must be a folder, .csv, .tsv, .parquet or .npz file or a built-in name, got '{source}'"
        )
    if "/" in source or path.suffix:
        raise TailtuneError(
            f"no folder or file '{source}'", "check the path, or name a built-in: " + ", ".join(builtin.NAMES)
        )
    raise unknown_name("folder, file or built-in data set", source, builtin.NAMES)


def select_images(listing: Listing, data: DataConfig) -> Listing:
    """Return the images of `listing` that `data` takes, in groups.

    Raises:
        UsageError: If `group_by` is no regular expression, or matches nothing.
        TailtuneError: If the classes break a law, before or after rare ones are merged or dropped.
    """
    if data.group_by is not None:
        listing = _grouped(listing, data.group_by)
    check_classes(listing)
    if data.long_tail is not None:
        listing = cut_long_tail(listing, data.long_tail, data.long_tail_seed)
    if data.rare_classes != "keep":
        listing = apply_rare_classes(listing, data.rare_classes, data.rare_below)
        check_classes(listing)
    return listing


def _grouped(listing: Listing, pattern: str) -> Listing:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group-by must be a regular expression, got '{pattern}' ({error})") from None
    matches = [expression.search(name) for name in listing.names]
    keys = ["" if m is None else "\0".join(g or "" for g in (m.groups() or (m[0],))) for m in matches]
    missed = sum(m is None for m in matches)
    if missed == len(matches):
        raise UsageError(
            f"--group-by must match paths below {listing.source}, but '{pattern}' matches none of {missed}",
            f"the first of them is '{listing.names[0]}'" if listing.names else "",
        )
    replaced = ("--group-by takes the place of the manifest's groups",) if any(listing.group_keys) else ()
    note = (
        (f"{missed} of {len(matches)} paths do not match '{pattern}'; each is a group of its own",)
        if missed
        else ()
    )
    return dataclasses.replace(listing, group_keys=tuple(keys), notes=listing.notes + replaced + note)


def _with_content_stamps(listing: Listing) -> Listing:
    if listing.kind == "npz":
        with open(Path(listing.source).expanduser(), "rb") as file:
            return dataclasses.replace(listing, stamps=(hashlib.file_digest(file, "sha256").hexdigest(),))
    if listing.read is not None:
        return listing
    stamps = []
    for name in listing.names:
        try:
            with open(listing.root / name, "rb") as file:
                stamps.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            stamps.append(str(error.strerror))
    return dataclasses.replace(listing, stamps=tuple(stamps))


def _fill(
    folder: Path, listing: Listing, data: DataConfig, workers: int | None, progress: Progress | None
) -> Rows:
    if listing.read is not None:
        assert listing.rows is not None
        scratch = folder / "pixels.npy"
        try:
            _fill_from_array(folder / "images.npy", listing.read(scratch), listing.rows, data)
        finally:
            scratch.unlink(missing_ok=True)
        return []
    geometry = survey(listing.root, listing.names, data.image_size, data.resize)
    try:
        broken = _decode(folder, listing, geometry, workers, progress)
    except ColourFoundError:
        broken = _decode(folder, listing, dataclasses.replace(geometry, channels=3), workers, progress)
    if len(broken) == len(listing):
        name, reason = listing.names[0], broken[0][1]
        raise TailtuneError(
            f"{listing.source}: must hold images that can be decoded, but all {len(broken)} files are broken",
            f"the first, {name}: {reason}",
        )
    return broken


def _decode(
    folder: Path, listing: Listing, geometry: Geometry, workers: int | None, progress: Progress | None
) -> Rows:
    images, log = folder / "images.npy", folder / "done.jsonl"
    shape = (len(listing), *geometry.image_size, geometry.channels)
    if not log.exists() or not _holds(images, shape):
        log.unlink(missing_ok=True)
        allocate(images, shape)
        log.touch()
    broken = decode_all(images, log, listing.root, listing.names, geometry, workers=workers, progress=progress)
    log.unlink()
    return broken


def _holds(images: Path, shape: tuple[int, ...]) -> bool:
    """Whether an interrupted decoding left the whole array."""
    try:
        return bool(np.load(images, mmap_mode="r", allow_pickle=False).shape == shape)
    except (OSError, ValueError, EOFError):
        return False


def _any_readable_now(listing: Listing, broken: Rows) -> bool:
    """Whether a file that could not be read when the rest was decoded can be read now."""
    for row, reason in broken:
        if reason.startswith(UNREAD):
            try:
                (listing.root / listing.names[row]).read_bytes()
            except OSError:
                continue
            return True
    return False


def _fill_from_array(
    target: Path, images: NDArray[np.uint8], rows: NDArray[np.int64], data: DataConfig
) -> None:
    """Write `rows` of `images` `(N', H, W[, C])`, fitted to the wanted size, grey where all of them are."""
    if images.ndim == 3:
        images = images[..., None]
    size = data.image_size or (max(4, images.shape[1]), max(4, images.shape[2]))
    grey = all(bool((images[of] == images[of][..., :1]).all()) for of in row_blocks(images.shape))
    channels = 1 if grey else 3
    out = allocate(target, (len(rows), *size, channels))
    if size == images.shape[1:3]:
        for block in row_blocks(out.shape):
            out[block] = images[rows[block]][..., :channels]
        return
    for place, row in enumerate(rows.tolist()):
        pixels = images[row]
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        out[place] = fit(image, size, data.resize, channels)


def _without_broken(listing: Listing, broken: Rows, max_share: float) -> Listing:
    named = tuple((listing.names[row], reason) for row, reason in broken)
    bad, every = len(broken) + listing.absent, len(listing) + listing.absent
    if bad > max_share * every:
        name, reason = (named or listing.skipped)[0]
        raise TailtuneError(
            f"{listing.source}: at most {max_share:.0%} of the images may be broken or absent, but {bad} of "
            f"{every} are ({name}: {reason})",
            "repair or remove them, or raise --max-broken",
        )
    if not broken:
        return listing
    kept = listing.select(np.delete(np.arange(len(listing)), [row for row, _ in broken]))
    lost = lost_classes(listing.class_names, kept.class_names)
    kept = dataclasses.replace(kept, skipped=kept.skipped + named, notes=kept.notes + lost)
    check_classes(kept)
    return kept


def _dataset(listing: Listing, images: NDArray[np.uint8], key: str) -> ImageDataset:
    groups = listing.groups()
    meaning = fingerprint(
        key,
        *listing.class_names,
        hashlib.sha256(listing.labels.tobytes()).hexdigest(),
        hashlib.sha256(listing.given_split.tobytes()).hexdigest(),
        "" if groups is None else hashlib.sha256(groups.tobytes()).hexdigest(),
    )
    return ImageDataset(
        images=images,
        labels=listing.labels,
        class_names=listing.class_names,
        fingerprint=meaning,
        source=listing.source,
        given_split=listing.given_split,
        paths=listing.names,
        groups=groups,
        skipped=listing.skipped,
        root=None if listing.read is not None else listing.root,
        notes=listing.notes,
    )

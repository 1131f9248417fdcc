"""A folder that Hugging Face's `datasets` saved, or an `imagefolder` with a `metadata` file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from analysis.atomic import write_atomic
from analysis.errors import TailtuneError
from trainable.data.listing import SPLIT_CODES, UNASSIGNED, Listing, encode_labels


def is_hugging_face(root: Path) -> bool:
    """Whether a folder was saved by `save_to_disk`, or names its labels in a metadata file."""
    if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
        return True
    files = [
        path
        for where in ("", "*/")
        for kind in ("csv", "jsonl")
        for path in root.glob(f"{where}metadata.{kind}")
    ]
    return any(_names_files(path) for path in files)


def _names_files(metadata: Path) -> bool:
    """Whether the first line has the column that makes it an `imagefolder`'s; others are someone's notes."""
    try:
        with open(metadata, "rb") as file:
            return b"file_name" in file.readline(65536)
    except OSError:
        return False


def list_hugging_face(root: Path, source: str, cache_dir: Path) -> Listing:
    """Return the images of such a folder; their encoded bytes are laid out once below `cache_dir`.

    The columns are `image`, `label` and, where there is one, `group`; rows are known by their bytes.

    Raises:
        TailtuneError: If the package `datasets` or a column is missing, or the folder cannot be read.
    """
    names: list[str] = []
    labels: list[str] = []
    codes: list[int] = []
    groups: list[str] = []
    stamps: list[str] = []
    skipped: list[tuple[str, str]] = []
    out = cache_dir.absolute() / "hugging_face"
    for part, rows in _parts(root, source, out / "tables").items():
        said = getattr(rows.features["label"], "int2str", str)
        for at, row in enumerate(rows):
            try:
                content = _content(row)
            except (LookupError, OSError) as error:
                skipped.append(
                    (f"{part or 'row'} {at}", getattr(error, "strerror", None) or str(error.args[0]))
                )
                continue
            digest = hashlib.sha256(content).hexdigest()
            ending = Path(row["image"]["path"] or "image.bin").suffix
            if not (out / f"{digest}{ending}").exists():
                write_atomic(out / f"{digest}{ending}", content)
            names.append(f"{digest}{ending}")
            labels.append(said(row["label"]))
            codes.append(SPLIT_CODES.get(part, UNASSIGNED))
            groups.append("" if row.get("group") is None else str(row["group"]))
            stamps.append(digest)
    numbers, class_names = encode_labels(labels)
    return Listing(
        kind="hugging_face",
        source=source,
        root=out,
        names=tuple(names),
        labels=numbers,
        class_names=class_names,
        given_split=np.array(codes, dtype=np.int8),
        stamps=tuple(stamps),
        group_keys=tuple(groups) if any(groups) else (),
        skipped=tuple(skipped),
        absent=len(skipped),
    )


def _content(row: dict[str, Any]) -> bytes:
    """Return the bytes of a row's image.

    Raises:
        LookupError: If it has no image or no label.
        OSError: If the file that it names cannot be read.
    """
    if row["label"] is None or row["label"] == -1:  # -1 is what unlabelled test rows have
        raise LookupError("has no label")
    if row["image"] is None:
        raise LookupError("has no image")
    found: bytes = row["image"]["bytes"] or Path(row["image"]["path"]).read_bytes()
    return found


def _parts(root: Path, source: str, tables: Path) -> dict[str, Any]:
    """Return the rows of each part, images not decoded."""
    try:
        import datasets
    except ImportError:
        raise TailtuneError(
            f"{source}: a Hugging Face data set needs the package datasets", "pip install 'tailtune[hf]'"
        ) from None
    datasets.disable_progress_bars()
    try:
        saved = (root / "dataset_dict.json").exists() or (root / "state.json").exists()
        found = (
            datasets.load_from_disk(str(root))
            if saved
            else datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=str(tables))
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TailtuneError(f"{source}: must be a data set that `datasets` can read, but {reason}") from None
    parts = dict(found) if isinstance(found, dict) else {"": found}
    for rows in parts.values():
        missing = [column for column in ("image", "label") if column not in rows.features]
        if missing:
            have = ", ".join(rows.features)
            raise TailtuneError(
                f"{source}: needs the columns image and label, {missing[0]} is missing (found: {have})",
                "rename_column() before save_to_disk()",
            )
    if len(parts) == 1:
        parts = dict(zip([""], parts.values(), strict=True))
    return {part: rows.cast_column("image", datasets.Image(decode=False)) for part, rows in parts.items()}

"""A CSV or Parquet manifest: `path,label[,split][,group]`, paths relative to the manifest's folder."""

from __future__ import annotations

import codecs
import csv
import io
import os
import posixpath
import stat
from pathlib import Path, PurePosixPath

import numpy as np

from analysis.errors import TailtuneError, unknown_name
from trainable.data.folder import stamp
from trainable.data.listing import SPLIT_CODES, UNASSIGNED, Listing, encode_labels, lost_classes

Table = list[tuple[int, dict[str, str]]]
"""Rows as text by column name in lower case, each with its line in the file (from 1, the header's)."""
Row = tuple[str, str, int, str]
"""Path, label, split code, group."""


def list_manifest(path: Path, source: str, *, allow_outside: bool = False) -> Listing:
    """Return the images that a manifest names; a file that is absent is named and left out.

    Args:
        path: The manifest; comma, semicolon or tab between columns; UTF-8, UTF-16 with its mark, or (each line
            that is not UTF-8, with a note) Latin-1.
        source: What the user named.
        allow_outside: Let paths be absolute or leave the manifest's folder.

    Raises:
        TailtuneError: If a column is missing, a split unknown, a path outside, or a path stands twice.
    """
    table, notes = _table(path, source)
    rows = sorted(_rows(table, source))
    _check_paths([name for name, _, _, _ in rows], source, allow_outside)
    kept: list[Row] = []
    stamps: list[str] = []
    skipped: list[tuple[str, str]] = []
    for row in rows:
        try:
            status = os.stat(path.parent / row[0])
        except OSError as error:
            skipped.append((row[0], (error.strerror or "cannot be read").lower()))
            continue
        if not stat.S_ISREG(status.st_mode):
            skipped.append((row[0], "is no regular file"))
            continue
        kept.append(row)
        stamps.append(stamp(status))
    if rows and not kept:
        raise TailtuneError(
            f"{source}: its images must exist, but none of {len(rows)} does, not '{rows[0][0]}' either",
            "write paths relative to the manifest's folder",
        )
    labels, class_names = encode_labels([label for _, label, _, _ in kept])
    groups = tuple(group for _, _, _, group in kept)
    return Listing(
        kind="manifest",
        source=source,
        root=path.parent,
        names=tuple(name for name, _, _, _ in kept),
        labels=labels,
        class_names=class_names,
        given_split=np.array([code for _, _, code, _ in kept], dtype=np.int8),
        stamps=tuple(stamps),
        group_keys=groups if any(groups) else (),
        skipped=tuple(skipped),
        notes=(*notes, *_spanning(kept), *lost_classes([label for _, label, _, _ in rows], class_names)),
        absent=len(skipped),
    )


def _table(path: Path, source: str) -> tuple[Table, tuple[str, ...]]:
    """Return the rows, and what had to be guessed."""
    if path.suffix.lower() == ".parquet":
        return _parquet(path, source), ()
    try:
        text, notes = _text(path.read_bytes())
    except OSError as error:
        raise TailtuneError(f"{source}: must be readable, but {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TailtuneError(f"{source}: must be UTF-8, but {error.reason}", "save it as UTF-8") from None
    if 4 * text.count("\0") > len(text):
        raise TailtuneError(
            f"{source}: must be UTF-8, or UTF-16 with its mark, but half of it are NUL characters",
            "save it as UTF-8",
        )
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        numbered = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise TailtuneError(f"{source}: must be a CSV table, but {error}") from None
    lines = [line for _, line in numbered]
    if not lines:
        raise TailtuneError(
            f"{source}: must hold a header and rows, got an empty file", "start it with `path,label`"
        )
    columns = [cell.strip().lower() for cell in lines[0]]
    if len(set(columns)) < len(columns):
        raise TailtuneError(
            f"{source}: each column must stand once, got {', '.join(columns)}", "rename or remove one"
        )
    for number, line in numbered[1:]:
        if len(line) != len(columns):
            raise TailtuneError(
                f"{source}: each row must have the header's {len(columns)} cells, row {number} has {len(line)}",
                "use one separator throughout, and quote cells that hold it",
            )
    return [
        (number, dict(zip(columns, (cell.strip() for cell in line), strict=True)))
        for number, line in numbered[1:]
    ], notes


def _text(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """Return a file as text, and a note where lines were taken for Latin-1.

    Each line is judged for itself: tables are pasted together from several programs, and one line in
    another encoding must not turn every `ö` of the others into two characters, and a class into two.
    """
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16"), ()
    try:
        return raw.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        pass
    lines: list[str] = []
    guessed: list[int] = []
    for number, line in enumerate(raw.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("latin-1"))
            guessed.append(number)
    note = f"{len(guessed)} lines are not UTF-8 and were read as Latin-1, the first of them line {guessed[0]}"
    return "".join(lines), (note,)


def _parquet(path: Path, source: str) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise TailtuneError(
            f"{source}: Parquet needs the package pyarrow", "pip install pyarrow, or write CSV"
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise TailtuneError(f"{source}: must be a Parquet table, but {str(error).splitlines()[0]}") from None
    return [
        (number, {str(key).lower(): "" if value is None else str(value) for key, value in row.items()})
        for number, row in enumerate(table.to_pylist(), start=2)
    ]


def _rows(table: Table, source: str) -> list[Row]:
    columns = [*table[0][1]] if table else []
    missing = [column for column in ("path", "label") if table and column not in columns]
    if missing:
        found = ", ".join(columns)
        raise TailtuneError(
            f"{source}: needs the columns path and label, {missing[0]} is missing (found: {found})"[:300]
        )
    return [_row(row, number, source) for number, row in table]


def _row(row: dict[str, str], number: int, source: str) -> Row:
    path, label, split = row["path"].replace("\\", "/"), row["label"], row.get("split", "").lower()
    if not path or not label:
        raise TailtuneError(
            f"{source}: each row needs a path and a label, row {number} has '{path}' and '{label}'"
        )
    if "\0" in path:
        raise TailtuneError(f"{source}: a path must hold no NUL character, row {number} has one")
    if split and split not in SPLIT_CODES:
        refused = unknown_name("split", split, SPLIT_CODES)
        raise TailtuneError(f"{source}, row {number}: {refused.message}", refused.remedy)
    return posixpath.normpath(path), label, SPLIT_CODES.get(split, UNASSIGNED), row.get("group", "")


def _check_paths(names: list[str], source: str, allow_outside: bool) -> None:
    """Refuse sorted `names` of which one stands twice, or leaves the manifest's folder."""
    for name, before in zip(names, ["", *names], strict=False):
        if name == before:
            raise TailtuneError(f"{source}: a path must stand once, got '{name}' twice", "keep one of the rows")
        leaves = name.startswith("/") or name[1:2] == ":" or ".." in PurePosixPath(name).parts
        if leaves and not allow_outside:
            raise TailtuneError(
                f"{source}: paths must stay in the manifest's folder, got '{name}'",
                "move the manifest above the images, or give --allow-outside",
            )


def _spanning(rows: list[Row]) -> tuple[str, ...]:
    labels: dict[str, set[str]] = {}
    for _, label, _, group in rows:
        if group:
            labels.setdefault(group, set()).add(label)
    spanning = sorted(group for group, of in labels.items() if len(of) > 1)
    if not spanning:
        return ()
    listed = ", ".join(spanning[:10]) + (", …" if len(spanning) > 10 else "")
    return (f"{len(spanning)} groups span several classes and are kept whole within each class only: {listed}",)

"""JSON lines on disk, plain or under zstd: written whole, read with the place of every mistake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from curation.errors import DataContractError, Problem

LEVEL = 3  # zstd's default: 50 MB/s on a slow core, a tenth of the bytes
REPORTED = 20  # mistakes named for one file


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one object a line; the file appears whole or not at all. Returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with temporary.open("wb") as raw, _packed(raw, path) as stream:
            for row in rows:
                stream.write(orjson.dumps(row) + b"\n")
                count += 1
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # a row that was refused leaves no half file
    return count


def _packed(raw: BinaryIO, path: Path) -> AbstractContextManager[Any]:
    """`raw`, behind a compressor where the name ends in .zst."""
    compressed: AbstractContextManager[Any] = zstandard.ZstdCompressor(level=LEVEL).stream_writer(raw)
    return compressed if path.suffix == ".zst" else nullcontext(raw)


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed where its name ends in .zst.

    Raises:
        DataContractError: it cannot be read.
    """
    try:
        data = path.read_bytes()
        return _unpacked(data) if path.suffix == ".zst" else data
    except (OSError, zstandard.ZstdError) as error:
        raise DataContractError(Problem("unreadable-rows", f"cannot be read: {error}", str(path))) from None


def _unpacked(data: bytes) -> bytes:
    """All frames of a zstd file; a stream reader would take a file cut short for one that ends there."""
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise zstandard.ZstdError("the file is cut short")
        data = frame.unused_data
    return b"".join(parts)


def read_rows(path: Path, required: Iterable[str]) -> list[dict[str, Any]]:
    """All rows of a file.

    Raises:
        DataContractError: every line (the first twenty) that is no JSON object or lacks a required field.
    """
    rows: list[dict[str, Any]] = []
    problems = []
    fields = list(required)
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        try:
            row = orjson.loads(line)
            absent = [name for name in fields if name not in row] if isinstance(row, dict) else ["{}"]
            message = f"`{absent[0]}` is missing" if absent else ""
        except orjson.JSONDecodeError as error:
            message = f"not JSON: {error}"
        if message:
            problems.append(Problem("bad-row", message, f"{path}: line {number}", f"fields {', '.join(fields)}"))
        else:
            rows.append(row)
        if len(problems) == REPORTED:
            break
    if problems:
        raise DataContractError(*problems)
    return rows


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two processes may write the same file
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

"""Arrow columns to documents: the rules of `records.py` applied to whole columns.

Called by parquet and arrow with record batches; rows that fail become dead letters whose offset is the row number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.document import DOCUMENTS, DeadLetter, doc_id_of
from curation.errors import ConfigError, Problem
from curation.sources.base import Limits, RawBatch, dead_letter
from curation.sources.records import Fields, metadata_json


def one_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def only_dead(letter: DeadLetter) -> RawBatch:
    """A batch without documents."""
    return RawBatch(DOCUMENTS.empty_table(), [letter], np.zeros(0, np.int64))


def no_text_column(fields: Fields, columns: list[str], uri: str) -> ConfigError:
    """The error of a file none of whose columns can be the text."""
    return ConfigError(
        Problem(
            "no-text-field",
            f"no column is named {' or '.join(f'`{each}`' for each in fields.text)}",
            uri,
            f"one of its columns: {', '.join(columns)}",
            "name it in the job: {path: ..., text_field: ...}",
        )
    )


def raw_batches(batch: pa.RecordBatch, first_row: int, fields: Fields, limits: Limits, uri: str) -> Iterator[RawBatch]:
    """The documents of `batch`, cut so that each batch keeps the limits; `first_row` is its row number in the file.

    Raises:
        ConfigError: the file has no text column.
    """
    name = next((each for each in fields.text if each in batch.schema.names), None)
    if name is None:
        raise no_text_column(fields, batch.schema.names, uri)
    texts, errors = _texts(batch.column(name), name, limits)
    dead = [dead_letter(uri, first_row + row, error, raw) for row, error, raw in errors]
    rows = np.arange(first_row, first_row + batch.num_rows)
    if errors:
        keep = np.ones(batch.num_rows, np.bool_)
        keep[[row for row, _, _ in errors]] = False
        mask = pa.array(keep)
        texts, batch = texts.filter(mask), batch.filter(mask)
        rows = rows[keep]
    documents = _documents(batch, name, texts.cast(pa.string()), fields)
    yield from _cut(documents, rows, dead, limits)


def _cut(
    documents: pa.Table, rows: npt.NDArray[np.int64], dead: list[DeadLetter], limits: Limits
) -> Iterator[RawBatch]:
    sizes = pc.binary_length(documents["text"]).to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        base = ends[start] - sizes[start]
        stop = int(np.searchsorted(ends, base + limits.batch_bytes)) + 1
        stop = min(stop, start + limits.batch_documents, len(sizes))
        yield RawBatch(documents.slice(start, stop - start), dead, rows[start:stop])
        start, dead = stop, []
    if dead:
        yield RawBatch(documents.slice(0, 0), dead, rows[:0])


def _texts(column: pa.Array, name: str, limits: Limits) -> tuple[pa.Array, list[tuple[int, str, bytes]]]:
    """The text column as strings, and (row, reason, first bytes) of every row that is none."""
    strings = _strings(column)
    if strings is None:
        reason = f"the text field `{name}` is {column.type}, not a string"
        return column, [(row, reason, b"") for row in range(len(column))]
    errors: dict[int, tuple[str, bytes]] = {}
    for row in _rows(pc.is_null(strings)):
        errors[row] = (f"the text field `{name}` is null, not a string", b"")
    bad = _not_utf8(strings)
    for row, (reason, raw) in bad.items():
        errors[row] = (reason, raw)
    sizes = pc.binary_length(strings)
    for row in _rows(pc.greater(sizes, limits.max_text_bytes)):
        reason = f"giant text: {sizes[row].as_py()} bytes, the limit is {limits.max_text_bytes}"
        errors.setdefault(row, (reason, strings.cast(_binary(strings.type))[row].as_py()[:1000]))
    if not bad:  # a scan of characters needs characters
        for row in _rows(pc.or_(pc.equal(sizes, 0), pc.utf8_is_space(strings))):
            errors.setdefault(row, ("empty text", b""))
    else:
        for row in range(len(strings)):
            if row not in errors and not strings[row].as_py().strip():
                errors[row] = ("empty text", b"")
    return strings, [(row, *errors[row]) for row in sorted(errors)]


def _rows(mask: pa.Array) -> list[int]:
    """Positions where `mask` is true; null counts as false."""
    found: list[int] = np.flatnonzero(np.asarray(mask.fill_null(False).to_numpy(zero_copy_only=False))).tolist()
    return found


def _binary(kind: pa.DataType) -> pa.DataType:
    return pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()


def _strings(column: pa.Array) -> pa.Array | None:
    """`column` as a string or large_string array, not checked for UTF-8; None when it holds something else."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary(kind):
        return column.view(pa.string())
    if pa.types.is_large_binary(kind):
        return column.view(pa.large_string())
    return pa.nulls(len(column), pa.string()) if pa.types.is_null(kind) else None


def _not_utf8(strings: pa.Array) -> dict[int, tuple[str, bytes]]:
    """Reason and first bytes of every row that is not UTF-8: Parquet writers do not check what they call a string."""
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid:
        pass
    else:
        return {}
    found = {}
    for row, value in enumerate(strings.cast(_binary(strings.type)).to_pylist()):
        try:
            (value or b"").decode("utf-8")
        except UnicodeDecodeError as error:
            found[row] = (f"bad UTF-8: {error.reason} at byte {error.start} of the text", value[:1000])
    return found


def _documents(batch: pa.RecordBatch, text_name: str, texts: pa.Array, fields: Fields) -> pa.Table:
    used = {text_name}
    urls = _field(batch, fields.url, used)
    if fields.fixed_source is not None:
        sources = pa.array([fields.fixed_source] * len(texts), pa.string())
    else:
        found = _field(batch, fields.source, used)
        sources = pc.fill_null(found, fields.default_source)
    ids = _ids(batch, fields, used, texts, sources, urls)
    others = [name for name in batch.schema.names if name not in used]
    metadata = _metadata(batch.select(others)) if others else pa.nulls(len(texts), pa.string())
    return pa.table([ids, texts, sources, urls, metadata], schema=DOCUMENTS)


def _field(batch: pa.RecordBatch, name: str, used: set[str]) -> pa.Array:
    """The string column `name` with empty strings as null, and its name added to `used`; nulls when there is none."""
    if name in batch.schema.names and name not in used:
        strings = _strings(batch.column(name))
        if strings is not None and not _not_utf8(strings):
            used.add(name)
            strings = strings.cast(pa.string())
            return pc.if_else(pc.equal(strings, ""), None, strings)
    return pa.nulls(batch.num_rows, pa.string())


def _ids(
    batch: pa.RecordBatch, fields: Fields, used: set[str], texts: pa.Array, sources: pa.Array, urls: pa.Array
) -> pa.Array:
    ids = pa.nulls(len(texts), pa.string())
    for name in fields.id:
        ids = _field(batch, name, used)
        if name in batch.schema.names and name not in used:
            kind = batch.column(name).type
            if pa.types.is_integer(kind) or pa.types.is_floating(kind):
                used.add(name)
                numbers = batch.column(name).to_pylist()  # NaN is how a float column says that there is none
                ids = pa.array([None if n is None or n != n else str(n) for n in numbers], pa.string())
        if name in used:
            break
    if not ids.null_count:
        return ids
    made: list[str | None] = [None] * len(ids)
    for row in _rows(pc.is_null(ids)):
        made[row] = doc_id_of(sources[row].as_py(), urls[row].as_py(), texts[row].as_py())
    return pc.coalesce(ids, pa.array(made, pa.string()))


def _metadata(others: pa.RecordBatch) -> pa.Array:
    """The other columns as JSON objects; a null is a missing field."""
    columns: list[list[Any]] = [_values(column) for column in others.columns]
    names = others.schema.names
    rows = (
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in zip(*columns, strict=True)
    )
    return pa.array([metadata_json(row) for row in rows], pa.binary()).cast(pa.string())


def _values(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        strings = _strings(column)
        assert strings is not None
        return [
            None if value is None else value.decode("utf-8", "backslashreplace")
            for value in strings.cast(_binary(strings.type)).to_pylist()
        ]

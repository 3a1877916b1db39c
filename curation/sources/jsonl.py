"""JSON Lines, plain, gzip or zstd: one object a line to one document, one bad line to one dead letter.

Lines are parsed one by one with orjson. Measured on 57 MB of Reddit posts, one core: docs/results/extraction.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson

from curation.errors import RecordError
from curation.sources.base import (
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    RawBatch,
    Split,
    dead_letter,
)
from curation.sources.lines import Line, line_ranges, lines_of
from curation.sources.records import Fields, Rows, slow_metadata_json

UTF8_BOM = b"\xef\xbb\xbf"


class JsonLines:
    """One JSON object a line. Blank lines are no records; a byte order mark at the start is skipped."""

    name: ClassVar[str] = "jsonl"
    summary: ClassVar[str] = "JSON Lines, plain, .gz or .zst (window up to 2^27)"
    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        return line_ranges(uri, self.name, opener, target_bytes)

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        rows = Rows(Fields.of(settings, split.uri), limits)
        loads, add = orjson.loads, rows.add
        for run in lines_of(split, opener, limits):
            offset = run.offset
            for data in run.lines:
                try:
                    record = loads(data)
                    if record.__class__ is not dict:
                        raise RecordError("not a JSON object")
                    add(record, offset)
                except (ValueError, RecordError) as error:
                    _second_look(rows, Line(data, offset), split.uri, error)
                if rows.is_full():
                    yield rows.take()
                offset += len(data) + 1
            if run.dead is not None:
                rows.dead.append(run.dead)
        if rows:
            yield rows.take()


def _second_look(rows: Rows, line: Line, uri: str, error: Exception) -> None:
    """Blank lines pass; JSON that orjson refuses but the standard library reads is kept; the rest is a dead letter.

    orjson refuses NaN, Infinity and lone surrogates, which pandas and Python's own json write.
    """
    data = line.data
    if not data.strip():
        return
    if isinstance(error, orjson.JSONDecodeError):
        try:
            if line.offset == 0 and data.startswith(UTF8_BOM):
                data = data.removeprefix(UTF8_BOM)
                if not data.strip():
                    return
            rows.add(_lenient(data), line.offset, dumps=slow_metadata_json)
        except RecordError as reason:
            error = reason
        else:
            return
    rows.dead.append(dead_letter(uri, line.offset, _message(error), line.data))


def _lenient(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"bad UTF-8: {error.reason} at byte {error.start} of the record") from None
    try:
        record = json.loads(text, parse_constant=lambda _: None)
    except json.JSONDecodeError as error:
        raise RecordError(f"bad JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise RecordError("bad JSON: nested too deep") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise RecordError(f"bad JSON: {str(error).split(';')[0]}") from None
    if not isinstance(record, dict):
        raise RecordError("not a JSON object")
    for name, value in record.items():
        if isinstance(value, str) and not _encodable(value):
            raise RecordError(f"lone surrogate in the field `{name}`".encode("ascii", "backslashreplace").decode())
    return record


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _message(error: Exception) -> str:
    """The reason without the wrapping of `HeadwaterError`."""
    return error.problems[0].message if isinstance(error, RecordError) else str(error)


SOURCES.add(JsonLines.name, JsonLines())

"""One record of fields to one row of `DOCUMENTS`: which field is the text, the id, the source, the url.

Called by the JSON-like sources (jsonl, csv) record by record; the columnar ones apply the same rules to columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from curation.document import DOCUMENTS, DeadLetter, doc_id_of
from curation.errors import RecordError
from curation.sources.base import InputSettings, Limits, RawBatch, source_name

# `text` is the field of Dolma, C4 and Hugging Face corpora; `selftext` of Reddit dumps, `content` of OSCAR and GitHub
# dumps, `raw_content` of RedPajama-V2 and cc_net.
TEXT_FIELDS = ("text", "selftext", "content", "raw_content")
ID_FIELDS = ("id", "doc_id")  # `doc_id` is our own output's name: a curated arm can be curated again under its ids


@dataclass(frozen=True)
class Fields:
    """The field names that one input reads, resolved from its settings."""

    text: tuple[str, ...]
    id: tuple[str, ...]
    url: str
    source: str
    default_source: str
    fixed_source: str | None

    @classmethod
    def of(cls, settings: InputSettings, uri: str) -> Fields:
        return cls(
            text=(settings.text_field,) if settings.text_field else TEXT_FIELDS,
            id=(settings.id_field,) if settings.id_field else ID_FIELDS,
            url=settings.url_field or "url",
            source=settings.source_field or "source",
            default_source=settings.source or source_name(uri),
            fixed_source=settings.source,
        )

    def no_text(self) -> str:
        return f"no text field: none of {', '.join(self.text)}"


def id_text(value: object) -> str | None:
    """An id as a string, None when there is none; numbers as JSON writes them.

    Raises:
        RecordError: a number that has lost digits.
    """
    if isinstance(value, str):
        return value or None
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, float) and abs(value) >= 2**63:
        # The fast JSON parser rounds integers of more than 64 bits: two records would share an id.
        raise RecordError("the id is a number of more than 64 bits: write it as a string")
    if isinstance(value, int | float):
        return str(value)
    return None


def metadata_json(record: Mapping[str, Any]) -> bytes | None:
    """The fields that are left, as compact JSON with sorted keys; None when there are none.

    A record whose only other field is `metadata` (Dolma's layout, and our own output) is not wrapped a second time.
    """
    if len(record) == 1 and "metadata" in record:
        inner = record["metadata"]
        if isinstance(inner, str):
            try:
                inner = orjson.loads(inner)
            except orjson.JSONDecodeError:
                inner = None
        if inner is None or isinstance(inner, dict):
            record = inner or ({} if record["metadata"] in (None, "") else record)
    if not record:
        return None
    try:
        return orjson.dumps(record, default=_plain, option=_METADATA_OPTIONS)
    except orjson.JSONEncodeError:  # orjson reads 1024 levels and writes 254
        return slow_metadata_json(record)


def slow_metadata_json(record: Mapping[str, Any]) -> bytes | None:
    """As `metadata_json`, for what only the standard library writes: deep values, lone surrogates as escapes.

    Raises:
        RecordError: deeper than Python's own limit.
    """
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)
    except RecursionError:
        raise RecordError("the other fields are nested too deep") from None
    return text.encode() if record else None


_METADATA_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


class Rows:
    """Rows of a batch under construction, and the dead letters met on the way."""

    def __init__(self, fields: Fields, limits: Limits) -> None:
        self.fields = fields
        self.limits = limits
        self.dead: list[DeadLetter] = []
        self._clear()

    def _clear(self) -> None:
        self.ids: list[str] = []
        self.offsets: list[int] = []
        self.texts: list[str] = []
        self.sources: list[str] = []
        self.urls: list[str | None] = []
        self.metadata: list[bytes | None] = []
        self.chars = 0

    def add(
        self,
        record: dict[str, Any],
        offset: int,
        dumps: Callable[[Mapping[str, Any]], bytes | None] = metadata_json,
    ) -> None:
        """Append the row of `record`, which is emptied of the fields that became columns.

        Raises:
            RecordError: the record has no usable text; the message is the dead letter's reason.
        """
        fields = self.fields
        for name in fields.text:
            if name in record:
                text = record.pop(name)
                break
        else:
            raise RecordError(fields.no_text())
        check_text(text, name, self.limits)
        source = fields.fixed_source
        if source is None:
            source = record.get(fields.source)
            if source.__class__ is str and source:
                del record[fields.source]
            else:
                source = fields.default_source
        url = record.get(fields.url)
        if url.__class__ is str and url:
            del record[fields.url]
        else:
            url = None
        for name in fields.id:
            doc_id = id_text(record.get(name))
            if doc_id is not None:
                del record[name]
                break
        else:
            doc_id = doc_id_of(source, url, text)
        metadata = dumps(record) if record else None
        self.ids.append(doc_id)
        self.offsets.append(offset)
        self.texts.append(text)
        self.sources.append(source)
        self.urls.append(url)
        self.metadata.append(metadata)
        self.chars += len(text)

    def is_full(self) -> bool:
        """True when the batch has reached its bound of documents or of text; code points stand in for bytes here."""
        return len(self.ids) >= self.limits.batch_documents or self.chars >= self.limits.batch_bytes

    def __bool__(self) -> bool:
        return bool(self.ids or self.dead)

    def take(self) -> RawBatch:
        """The rows so far as a batch; the builder is empty afterwards."""
        table = pa.table(
            [
                pa.array(self.ids, pa.string()),
                pa.array(self.texts, pa.string()),
                pa.array(self.sources, pa.string()),
                pa.array(self.urls, pa.string()),
                pa.array(self.metadata, pa.binary()).cast(pa.string()),
            ],
            schema=DOCUMENTS,
        )
        batch = RawBatch(table, self.dead, np.array(self.offsets, np.int64))
        self._clear()
        self.dead = []
        return batch


def check_text(text: object, name: str, limits: Limits) -> None:
    """Raise `RecordError` unless `text` is a non-empty string within the limit that UTF-8 can hold."""
    if text.__class__ is not str:
        raise RecordError(f"the text field `{name}` is {_json_type(text)}, not a string")
    assert isinstance(text, str)
    if not text or text.isspace():
        raise RecordError("empty text")
    if len(text) * 4 > limits.max_text_bytes:  # no code point takes more than four bytes
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limits.max_text_bytes:
            raise RecordError(f"giant text: {size} bytes, the limit is {limits.max_text_bytes}")


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else type(value).__name__

"""WARC and WET archives: HTML pages and plain text of a crawl to documents.

One record, one document: a successful HTTP response with HTML, a resource (HTML or plain text), or the extracted text
of a conversion record (WET). Requests, images, redirects and the like are no documents and leave no trace; a page
that is one but cannot be read, or of which no text is left, is a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from curation.document import DeadLetter
from curation.errors import RecordError
from curation.sources.base import (
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    RawBatch,
    Split,
    byte_ranges,
    dead_letter,
    whole_file,
)
from curation.sources.html import decode, extractor, looks_like_html
from curation.sources.http import charset_of, parse_response
from curation.sources.records import Fields, Rows
from curation.sources.streams import compression_of, decompressed_size, head_of
from curation.sources.warc_records import Record, records

HTML = ("text/html", "application/xhtml+xml")


class Warc:
    """Archives with pages. Offsets in dead letters are those of gzip members, or of an uncompressed stream."""

    name: ClassVar[str] = "warc"
    summary: ClassVar[str] = "WARC archives of web pages, HTML made text; .gz is split at members"
    suffixes: ClassVar[tuple[str, ...]] = (".warc",)
    # Pages count with the size of their HTML as gzip packs it, four times their text (100 pages: 10.1 MB of HTML,
    # 2.1 MB packed, 0.5 MB of text): 32 MB of it are 23 s of extraction at 68 pages/s, 32 MB of text were 90 s.
    is_html: ClassVar[bool] = True

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        decompressed = decompressed_size(uri, opener)
        # Only gzip can be entered in the middle without doubt: in plain WARC a page may quote the start of a record.
        if compression_of(head_of(uri, opener)) != "gzip":
            return whole_file(uri, self.name, decompressed)
        stored = opener.size(uri)
        text_bytes = stored if self.is_html else decompressed
        return byte_ranges(uri, self.name, stored, text_bytes, target_bytes, decompressed)

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        rows = Rows(Fields.of(settings, split.uri), limits)
        extract = extractor(settings.extractor)
        for item in records(split, opener, limits):
            if isinstance(item, DeadLetter):
                rows.dead.append(item)
                continue
            try:
                fields = _fields(item, extract, limits)
                if fields is not None:
                    rows.add(fields, item.offset)
            except RecordError as error:
                url = item.headers.get("warc-target-uri", "")
                rows.dead.append(dead_letter(split.uri, item.offset, error.problems[0].message, url))
            if rows.is_full():
                yield rows.take()
        if rows:
            yield rows.take()


class Wet(Warc):
    """Archives of extracted text: a WARC whose documents are conversion records."""

    name: ClassVar[str] = "wet"
    summary: ClassVar[str] = "WET archives of plain text; .gz is split at members"
    suffixes: ClassVar[tuple[str, ...]] = (".wet",)
    is_html: ClassVar[bool] = False


def _fields(record: Record, extract: Callable[[str], str], limits: Limits) -> dict[str, str] | None:
    """The record as fields of a document; None when it is no page.

    Raises:
        RecordError: it is a page, and unreadable.
    """
    text = _text(record, extract, limits)
    if text is None:
        return None
    headers = record.headers
    fields = {
        "text": text,
        "id": headers.get("warc-record-id", "").strip("<>"),
        "url": headers.get("warc-target-uri", "").strip("<>"),
    }
    for name in ("warc-date", "warc-identified-content-language"):
        if headers.get(name):
            fields[name] = headers[name]
    return fields


def _text(record: Record, extract: Callable[[str], str], limits: Limits) -> str | None:
    headers = record.headers
    kind = headers.get("warc-type", "").lower()
    content_type = headers.get("content-type", "")
    media_type = content_type.split(";")[0].strip().lower()
    if kind == "conversion":
        return _plain(record.block)
    if kind == "response":
        if media_type != "application/http" and not headers.get("warc-target-uri", "").strip("<").startswith("http"):
            return None  # DNS answers and the like
        response = parse_response(record.block, limits.max_record_bytes)
        if not 200 <= response.status < 300 or not response.body:
            return None
        media_type, charset, body = response.media_type, response.charset, response.body
    else:
        if headers.get("warc-target-uri", "").strip("<").startswith("metadata:"):
            return None  # the crawler's own arguments and logs
        charset, body = charset_of(content_type), record.block
        if media_type == "text/plain":
            return decode(body, charset)
    is_html = media_type in HTML or headers.get("warc-identified-payload-type", "").lower() in HTML
    if not is_html and not (media_type == "" and looks_like_html(body)):
        return None
    if len(body) > limits.max_text_bytes:
        raise RecordError(f"giant page: {len(body)} bytes, the limit is {limits.max_text_bytes}")
    text = extract(decode(body, charset))
    if not text.strip():
        raise RecordError("no text in the page")
    return text


def _plain(block: bytes) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"bad UTF-8: {error.reason} at byte {error.start} of the text") from None


SOURCES.add(Warc.name, Warc())
SOURCES.add(Wet.name, Wet())

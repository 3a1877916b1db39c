"""Plain text: a file, its paragraphs or its lines as documents."""

from __future__ import annotations

from collections.abc import Iterator
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
    dead_letter,
    whole_file,
)
from curation.sources.lines import Line, line_ranges, lines_of
from curation.sources.records import Fields, Rows
from curation.sources.streams import BrokenStreamError, blocks, decompressed_size

UTF8_BOM = b"\xef\xbb\xbf"


class PlainText:
    """UTF-8 text. `text_unit` says what a document is: the file (default), a paragraph, a line; blank ones are none."""

    name: ClassVar[str] = "txt"
    summary: ClassVar[str] = "plain text, one document a file, a paragraph or a line; .gz or .zst too"
    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".text")

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        if settings.text_unit == "line":
            return line_ranges(uri, self.name, opener, target_bytes)
        return whole_file(uri, self.name, decompressed_size(uri, opener))

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        fields = Fields.of(settings.model_copy(update={"text_field": "text"}), split.uri)
        rows = Rows(fields, limits)
        pieces = {"file": _file, "paragraph": _paragraphs, "line": _lines}[settings.text_unit]
        for piece in pieces(split, opener, limits):
            if isinstance(piece, DeadLetter):
                rows.dead.append(piece)
            else:
                _add(rows, piece, split.uri)
            if rows.is_full():
                yield rows.take()
        if rows:
            yield rows.take()


def _add(rows: Rows, piece: Line, uri: str) -> None:
    data = piece.data.removeprefix(UTF8_BOM) if piece.offset == 0 else piece.data
    try:
        text = data.decode("utf-8")
        if text and not text.isspace():
            rows.add({"text": text}, piece.offset)
    except UnicodeDecodeError as error:
        reason = f"bad UTF-8: {error.reason} at byte {error.start} of the text"
        rows.dead.append(dead_letter(uri, piece.offset, reason, piece.data))
    except RecordError as error:
        rows.dead.append(dead_letter(uri, piece.offset, error.problems[0].message, piece.data[:1000]))


def _file(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Line | DeadLetter]:
    held: list[bytes] = []
    size = 0
    broken = None
    try:
        for block in blocks(split.uri, opener):
            held.append(block)
            size += len(block)
            if size > limits.max_text_bytes + len(UTF8_BOM):
                yield dead_letter(split.uri, 0, f"giant text: more than {limits.max_text_bytes} bytes", held[0][:1000])
                return
    except BrokenStreamError as error:
        # Half a document is another document: it is not kept.
        broken = error.problems[0].message
    if broken is not None:
        yield dead_letter(split.uri, 0, broken, b"".join(held)[:1000])
    else:
        yield Line(b"".join(held), 0)


def _lines(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Line | DeadLetter]:
    for run in lines_of(split, opener, limits):
        offset = run.offset
        for data in run.lines:
            if data.strip():
                yield Line(data.removesuffix(b"\r"), offset)
            offset += len(data) + 1
        if run.dead is not None:
            yield run.dead


def _paragraphs(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Line | DeadLetter]:
    """Lines between blank lines; a paragraph longer than a text may be is one dead letter, not held."""
    held: list[bytes] = []
    size, start = 0, 0
    for run in lines_of(split, opener, limits):
        offset = run.offset
        for data in run.lines:
            if not data.strip():
                if size:
                    yield _paragraph(split.uri, held, size, start, limits)
                held, size = [], 0
            else:
                if not size:
                    start = offset
                size += len(data) + 1
                if size <= limits.max_text_bytes + 1 or not held:
                    held.append(data)
            offset += len(data) + 1
        if run.dead is not None:
            # The lost line or break was part of this paragraph: what is left of it is no whole document.
            held, size = [], 0
            yield run.dead
    if size:
        yield _paragraph(split.uri, held, size, start, limits)


def _paragraph(uri: str, held: list[bytes], size: int, start: int, limits: Limits) -> Line | DeadLetter:
    if size - 1 > limits.max_text_bytes:
        return dead_letter(uri, start, f"giant text: {size - 1} bytes, the limit is {limits.max_text_bytes}", held[0])
    return Line(b"\n".join(held), start)


SOURCES.add(PlainText.name, PlainText())

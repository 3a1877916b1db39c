"""CSV and TSV with a header row: one row to one document, one bad row to one dead letter.

A quoted cell may hold line ends, so that a file cannot be entered in the middle: it is one task.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import ClassVar

from curation.errors import RecordError
from curation.sources.base import (
    COMPRESSIONS,
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    RawBatch,
    Split,
    dead_letter,
    unreadable,
    whole_file,
)
from curation.sources.columns import no_text_column
from curation.sources.lines import Line, lines_of
from curation.sources.records import Fields, Rows
from curation.sources.streams import decompressed_size

UTF8_BOM = b"\xef\xbb\xbf"
DELIMITERS = ",;|\t"
# After a quote that never closes, reading goes on at the line behind the one that opened it, if no more than this was
# read in search of the end: a bound on how often a line is read.
RETRY_BYTES = 1 << 20


class Csv:
    """RFC 4180 with the delimiter of the header row, of .tsv the tab. Empty cells are missing fields."""

    name: ClassVar[str] = "csv"
    summary: ClassVar[str] = "CSV and TSV with a header row; .gz or .zst too"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        return whole_file(uri, self.name, decompressed_size(uri, opener))

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        # The module's bound of 131,072 characters a cell is global; `_Feed` bounds whole rows.
        csv.field_size_limit(max(csv.field_size_limit(), limits.max_record_bytes))
        rows = Rows(Fields.of(settings, split.uri), limits)
        feed = _Feed(split, opener, limits, rows)
        header: list[str] = []
        reader: Iterator[list[str]] = iter(())
        while feed.more():
            if not header:
                delimiter = _delimiter(split.uri, feed.pending[0].data)
                reader = csv.reader(feed, delimiter=delimiter, strict=True)
            try:
                cells = next(reader, None)
                if cells is None or not any(line.data.strip() for line in feed.held):
                    continue  # a blank line
                if not header:
                    header = _header(cells, rows.fields, split.uri)
                    continue
                _add(rows, header, cells, feed)
            except csv.Error as error:
                if not header:
                    raise unreadable(split.uri, f"its header is no CSV: {error}") from error
                feed.give_up(f"bad CSV: {error}")
            except RecordError as error:
                feed.dead(error.problems[0].message)
            if rows.is_full():
                yield rows.take()
        if rows:
            yield rows.take()


def _delimiter(uri: str, header: bytes) -> str:
    name = uri.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return "\t" if name.endswith(".tsv") else max(DELIMITERS, key=lambda each: header.count(each.encode()))


def _header(cells: list[str], fields: Fields, uri: str) -> list[str]:
    """The column names, a second one of the same name numbered."""
    if not any(name in cells for name in fields.text):
        raise no_text_column(fields, cells, uri)
    return [name if name not in cells[:at] else f"{name}.{at + 1}" for at, name in enumerate(cells)]


def _add(rows: Rows, header: list[str], cells: list[str], feed: _Feed) -> None:
    if feed.bad_utf8:
        raise RecordError(feed.bad_utf8)
    if len(cells) != len(header):
        raise RecordError(f"bad CSV: {len(cells)} cells in the row, {len(header)} in the header")
    text = rows.fields.text
    record = {name: cell for name, cell in zip(header, cells, strict=True) if cell or name in text}
    rows.add(record, feed.held[0].offset)


class _Feed:
    """The lines of a file for `csv.reader`, which asks for as many as a row has; it is asked again after each row."""

    def __init__(self, split: Split, opener: FileOpener, limits: Limits, rows: Rows) -> None:
        self._runs = lines_of(split, opener, limits)
        self._uri, self._limits, self._rows = split.uri, limits, rows
        self.pending: deque[Line] = deque()
        self.held: list[Line] = []  # of the row that is being read
        self._size = 0
        self.bad_utf8 = ""

    def more(self) -> bool:
        """Begin a row; False when there is no line left."""
        self.held, self._size, self.bad_utf8 = [], 0, ""
        return self._fill()

    def _fill(self) -> bool:
        while not self.pending:
            run = next(self._runs, None)
            if run is None:
                return False
            offset = run.offset
            for data in run.lines:
                self.pending.append(Line(data.removeprefix(UTF8_BOM) if offset == 0 else data, offset))
                offset += len(data) + 1
            if run.dead is not None:
                self._rows.dead.append(run.dead)
        return True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._size > self._limits.max_record_bytes or not self._fill():
            raise StopIteration  # inside a quoted cell the reader calls this an unexpected end
        line = self.pending.popleft()
        self.held.append(line)
        self._size += len(line.data) + 1
        try:
            return line.data.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            self.bad_utf8 = f"bad UTF-8: {error.reason} at byte {error.start} of line {len(self.held)} of the record"
            return line.data.decode("utf-8", "replace") + "\n"

    def dead(self, reason: str) -> None:
        """A dead letter for the row being read."""
        raw = b"\n".join(line.data[:1000] for line in self.held[:10])
        self._rows.dead.append(dead_letter(self._uri, self.held[0].offset, reason, raw))

    def give_up(self, reason: str) -> None:
        """A dead letter for the first line of a row that has no end; the others are read again."""
        if self._size > RETRY_BYTES:
            self.dead(f"{reason}; {len(self.held)} lines lost")
            return
        others, self.held = self.held[1:], self.held[:1]
        self.dead(reason)
        self.pending.extendleft(reversed(others))


SOURCES.add(Csv.name, Csv())

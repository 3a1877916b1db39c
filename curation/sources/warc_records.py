"""A WARC file as records, one by one, and a dead letter for every stretch that is none.

WARC 1.1 (ISO 28500:2017), section 4: version line, named fields, empty line, `Content-Length` bytes, two line ends.
A gzip WARC has one record in each gzip member, so a broken member costs one record, and a range of the stored file
can be entered at its first member.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from curation.document import DeadLetter
from curation.sources.base import FileOpener, Limits, Split, dead_letter, unreadable
from curation.sources.http import MAX_HEADER_BYTES, parse_headers
from curation.sources.streams import (
    GZIP_MAGIC,
    OUTPUT_BYTES,
    BrokenStreamError,
    before_break,
    blocks,
    compression_of,
    head_of,
    zlib_reason,
)

MEMBER = b"\x1f\x8b\x08"
CHUNK = 1 << 18
PEEK = 1 << 12  # compressed bytes that surely decode to the first five of a record
VERSIONS = (b"WARC/1.", b"WARC/0.")
DOCUMENT_TYPES = ("response", "resource", "conversion")


class Chunk(NamedTuple):
    """Decompressed bytes and the gzip member they come from; or, without bytes, what broke there."""

    data: bytes
    member: int  # offset of the member in the stored file; -1 when the file has no members
    error: str | None = None


class Place(NamedTuple):
    """Where a record begins: offset in the decompressed stream, or of its gzip member in the stored file."""

    offset: int
    inside: int  # bytes into the member


@dataclass(frozen=True)
class Record:
    """One record: its named fields with lower-case names, its block, and where it begins."""

    offset: int
    headers: Mapping[str, str]
    block: bytes


class Reader:
    """Lines and bytes from chunks, and the place of the next byte."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0  # of the next byte in the buffer
        self._base = 0  # decompressed offset of the buffer's first byte
        self._member = (0, -1)  # decompressed and stored offset of the member of the next byte
        self._ahead: tuple[int, int] | None = None  # the same of the last member in the buffer

    def place(self) -> Place:
        position = self._base + self._at
        if self._ahead is not None and self._ahead[0] <= position:
            self._member, self._ahead = self._ahead, None
        first, stored = self._member
        return Place(position, 0) if stored < 0 else Place(stored, position - first)

    def fill(self) -> bool:
        """Append the next chunk to the buffer; False at the end.

        Raises:
            BrokenStreamError: the stream is broken here. What was buffered is dropped; the next fill goes on behind.
        """
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        end = self._base + len(self._buffer)
        self.place()
        if chunk.member != (self._ahead or self._member)[1]:
            self._ahead = (end, chunk.member)
        self._buffer = self._buffer[self._at :] + chunk.data
        self._base, self._at = self._base + self._at, 0
        if chunk.error is not None:
            self.drop()
            raise BrokenStreamError(chunk.error)
        return True

    def drop(self) -> None:
        """Forget what is buffered."""
        self._base += len(self._buffer)
        self._buffer, self._at = b"", 0

    def starts_record(self) -> bool:
        """True when the next bytes are a version line."""
        while len(self._buffer) - self._at < 7 and self.fill():
            pass
        return self._buffer[self._at : self._at + 7] in VERSIONS

    def skip_blank(self) -> bool:
        """Go to the next byte that is no line end; False when there is none."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in b"\r\n":
                self._at += 1
            if self._at < len(self._buffer):
                return True
            if not self.fill():
                return False

    def line(self) -> bytes:
        """The next line with its newline; without one at the end or when it is longer than a header may be."""
        scanned = 0
        while (end := self._buffer.find(b"\n", self._at + scanned)) < 0:
            scanned = len(self._buffer) - self._at
            if scanned > MAX_HEADER_BYTES or not self.fill():
                end = len(self._buffer) - 1
                break
        found = self._buffer[self._at : end + 1]
        self._at = end + 1
        return found

    def read(self, size: int, *, keep: bool = True) -> tuple[bytes, int]:
        """The next `size` bytes (none of them unless `keep`) and how many there were.

        Fewer at the end, and where another gzip member begins with a record: then the length was a lie.
        """
        parts = []
        done = 0
        while done < size:
            if self._at == len(self._buffer):
                if not self.fill():
                    break
                if self._ahead is not None and self._ahead[0] == self._base + self._at and self.starts_record():
                    break
            part = self._buffer[self._at : self._at + size - done]
            self._at += len(part)
            done += len(part)
            if keep:
                parts.append(part)
        return b"".join(parts), done

    def next_record(self) -> None:
        """Go to the next line that begins a record, or to the end."""
        while line := self.line():
            if line.endswith(b"\n") and self.starts_record():
                return


def records(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Record | DeadLetter]:
    """The records of a split that can be documents (response, resource, conversion); others are passed over.

    Raises:
        StageError: the file cannot be read.
    """
    if compression_of(head_of(split.uri, opener)) == "gzip":
        start, stop = (split.start, split.last)
        with opener.open(split.uri) as stream:
            yield from _records(Reader(_members(stream, split.uri, start)), split.uri, limits, stop)
    else:
        chunks = (Chunk(data, -1) for data in blocks(split.uri, opener))
        yield from _records(Reader(chunks), split.uri, limits, None)


def _records(reader: Reader, uri: str, limits: Limits, stop: int | None) -> Iterator[Record | DeadLetter]:
    """Every record that begins at or before `stop`, and what breaks behind it before the next one."""
    while True:
        place = None
        try:
            if not reader.skip_blank():
                return
            place = reader.place()
            if stop is not None and place.offset > stop and reader.starts_record():
                return
            found = _record(reader, uri, limits, place)
        except BrokenStreamError as error:
            found = _dead(uri, Place((place or reader.place()).offset, 0), error.problems[0].message)
            reader.drop()
        if found is not None:
            yield found


def _record(reader: Reader, uri: str, limits: Limits, place: Place) -> Record | DeadLetter | None:
    """The record that begins here, the dead letter of what stands in its place, or None for one of another type."""
    if not reader.starts_record():
        line = reader.line()
        if not line.strip():
            return None
        reader.next_record()
        return _dead(uri, place, "no WARC header where a record should begin", line)
    lines: list[bytes] = []
    size = 0
    while (line := reader.line()).strip():
        lines.append(line.rstrip(b"\r\n"))
        size += len(line)
        if size > MAX_HEADER_BYTES:
            reader.next_record()
            return _dead(uri, place, f"giant header: more than {MAX_HEADER_BYTES} bytes")
    if not line:
        return _dead(uri, place, "truncated record: the file ends inside its header")
    headers = parse_headers(lines[1:])
    target = headers.get("warc-target-uri", "").encode()
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        reader.next_record()
        return _dead(uri, place, f"no valid Content-Length: `{length[:40]}`", target)
    is_wanted = headers.get("warc-type", "").lower() in DOCUMENT_TYPES
    is_giant = int(length) > limits.max_record_bytes
    block, got = reader.read(int(length), keep=is_wanted and not is_giant)
    if got < int(length):
        return _dead(uri, place, f"truncated record: {got} of {length} bytes", target)
    if not is_wanted:
        return None
    if is_giant:
        return _dead(uri, place, f"giant record: longer than {limits.max_record_bytes} bytes", target)
    return Record(place.offset, headers, block)


def _dead(uri: str, place: Place, error: str, raw: bytes = b"") -> DeadLetter:
    inside = f", {place.inside} bytes into the gzip member" if place.inside else ""
    return dead_letter(uri, place.offset, error + inside, raw)


class _Window:
    """Stored bytes from a file with their offset, read on demand and given back where a search overshot."""

    def __init__(self, stream: BinaryIO, uri: str, start: int) -> None:
        self._stream = stream
        self._uri = uri
        self.data = b""
        self.offset = start
        if start:
            stream.seek(start)

    def more(self) -> bool:
        try:
            data = self._stream.read(CHUNK)
        except OSError as error:
            raise unreadable(self._uri, error) from error
        self.data += data
        return bool(data)

    def consume(self, size: int) -> None:
        self.data = self.data[size:]
        self.offset += size

    def find_record(self) -> bool:
        """Go to the next gzip member that begins with a WARC record; False when there is none."""
        while True:
            at = self.data.find(MEMBER)
            if at < 0:
                self.consume(max(0, len(self.data) - len(MEMBER) + 1))
                if not self.more():
                    return False
                continue
            self.consume(at)
            while len(self.data) < PEEK and self.more():
                pass
            try:
                if zlib.decompressobj(31).decompress(self.data[:PEEK], 7) in VERSIONS:
                    return True
            except zlib.error:
                pass
            self.consume(1)


def _members(stream: BinaryIO, uri: str, start: int) -> Iterator[Chunk]:
    """The decompressed bytes of the members after `start`, the first being one that begins a record.

    A member stored inside another one's page (a crawl of a WARC) would be taken for one of ours if a range began
    right before it; a file read whole, or a range that begins elsewhere, is not deceived.
    """
    window = _Window(stream, uri, start + 1 if start else 0)
    if start and not window.find_record():
        return
    while True:
        if not window.data and not window.more():
            return
        padding = len(window.data) - len(window.data.lstrip(b"\0"))
        if padding:
            window.consume(padding)
            continue
        if len(window.data) < 2:
            window.more()
        member = window.offset
        error: str | None = "no gzip member where one should begin"
        if window.data.startswith(GZIP_MAGIC):
            error = yield from _member(window)
            if error is None:
                continue
        if window.data:
            window.consume(1)
        found = window.find_record()
        yield Chunk(b"", member, f"{error}; the next record is at byte {window.offset}" if found else error)
        if not found:
            return


def _member(window: _Window) -> Generator[Chunk, None, str | None]:
    """The bytes of the member that begins here; returns how it is broken, if it is."""
    member = window.offset
    decoder = zlib.decompressobj(31)
    while not decoder.eof:
        if not window.data and not window.more():
            if rest := decoder.flush():
                yield Chunk(rest, member)
            return None if decoder.eof else "truncated gzip: the file ends inside a member"
        snapshot = decoder.copy()
        try:
            data = decoder.decompress(window.data, OUTPUT_BYTES)
        except zlib.error as error:
            for good in before_break(snapshot, window.data):
                yield Chunk(good, member)
            return f"corrupt gzip: {zlib_reason(error)}"
        window.consume(len(window.data) - len(decoder.unused_data) - len(decoder.unconsumed_tail))
        if data:
            yield Chunk(data, member)
    return None

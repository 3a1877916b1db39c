"""A file as one decompressed byte stream that says exactly where it breaks.

In: a `FileOpener`. Out: `blocks` of decompressed bytes; a truncated or corrupt gzip or zstd file yields everything
before the break and then raises `BrokenStreamError`, which the sources turn into one dead letter.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from curation.errors import RecordError
from curation.sources.base import FileOpener, unreadable

READ_BYTES = 1 << 20
OUTPUT_BYTES = 1 << 20
# zstandard hands out all that one call decoded, and a zstd frame of constant bytes expands 32,768 times (a 128 KiB
# block from 4 bytes, RFC 8878 section 3.1.1.2): 16 KiB at a time bound a decompression bomb to 512 MiB. Decoding
# runs at 416 MB/s; 4 KiB a time would halve it, 64 KiB gain nothing (57 MB of JSONL, one core).
ZSTD_READ_BYTES = 1 << 14
# `zstd --long=27`, the largest window the zstd tool itself opens without a flag.
ZSTD_WINDOW = 1 << 27
# The ratio of a file is that of its beginning: 1 MiB stored, or less where that would become more than 64 MiB.
SAMPLE_BYTES = 1 << 20
SAMPLE_OUTPUT_BYTES = 1 << 26
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BrokenStreamError(RecordError):
    """The compressed stream ends or breaks before its end: what was decoded so far has been handed out."""


def compression_of(head: bytes) -> str | None:
    """`gzip`, `zstd` or None by the first bytes: no text or JSON begins with either magic number."""
    if head[:2] == GZIP_MAGIC:
        return "gzip"
    is_skippable = len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    return "zstd" if head[:4] == ZSTD_MAGIC or is_skippable else None


def head_of(uri: str, opener: FileOpener) -> bytes:
    """The first bytes of a file."""
    with opener.open(uri) as stream:
        return _read(stream, 4, uri)


def blocks(uri: str, opener: FileOpener, start: int = 0) -> Iterator[bytes]:
    """The decompressed bytes of `uri` in blocks of about 1 MiB; an uncompressed file from byte `start`.

    Raises:
        BrokenStreamError: truncated or corrupt; everything before was yielded.
        StageError: the file cannot be read.
    """
    with opener.open(uri) as stream:
        if start:
            stream.seek(start)
            yield from _plain(stream, uri)
            return
        head = _read(stream, 4, uri)
        compression = compression_of(head)
        if compression == "gzip":
            yield from gunzip(_chunks(stream, uri, READ_BYTES >> 4, head))
        elif compression == "zstd":
            yield from _unzstd(_chunks(stream, uri, ZSTD_READ_BYTES, head))
        else:
            yield from _chunks(stream, uri, READ_BYTES, head)


def blocks_from(uri: str, opener: FileOpener, start: int) -> Iterator[bytes]:
    """The decompressed bytes of `uri` from decompressed byte `start` on; what stands before is decoded and dropped.

    Raises:
        As `blocks`; a break before `start` too.
    """
    before = start
    for block in blocks(uri, opener):
        if len(block) > before:
            yield block[before:] if before else block
        before = max(0, before - len(block))


def decompressed_size(uri: str, opener: FileOpener) -> int:
    """About how many bytes `uri` holds when decompressed; exact when it is not compressed.

    The ratio of its beginning, or the size that a zstd header states where the two agree within a factor of two: a
    header speaks for its own frame only, and may lie. Both decoders hand out all that whole symbols (gzip) or blocks
    (zstd) of the sample say, so the estimate is a function of the file's bytes.

    Raises:
        StageError: the file cannot be read.
    """
    size = opener.size(uri)
    decoded, taken = 0, 0

    def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal taken
        for chunk in chunks:
            taken += len(chunk)
            yield chunk
            if taken >= SAMPLE_BYTES:
                return

    with opener.open(uri) as stream:
        head = _read(stream, 18, uri)  # the longest header of a zstd frame
        compression = compression_of(head)
        if compression is None:
            return size
        decode = gunzip if compression == "gzip" else _unzstd
        try:
            for block in decode(counted(_chunks(stream, uri, ZSTD_READ_BYTES, head))):
                decoded += len(block)
                if decoded >= SAMPLE_OUTPUT_BYTES:
                    break
        except BrokenStreamError:
            pass  # the sample ends inside a frame, or the file breaks here
    estimate = size * decoded // taken
    stated = _stated_size(head)
    return stated if estimate <= 2 * stated <= 4 * estimate else estimate


def _stated_size(head: bytes) -> int:
    """The decompressed size in the header of a zstd frame; 0 when it states none."""
    if head[:4] != ZSTD_MAGIC:
        return 0
    try:
        return max(0, zstandard.frame_content_size(head))
    except zstandard.ZstdError:
        return 0


def is_blank(uri: str, opener: FileOpener) -> bool:
    """True when `uri` holds nothing but white space, if anything.

    Raises:
        StageError: the file cannot be read.
    """
    try:
        return not any(block.strip() for block in blocks(uri, opener))
    except BrokenStreamError:
        return False


def _plain(stream: BinaryIO, uri: str) -> Iterator[bytes]:
    while block := _read(stream, READ_BYTES, uri):
        yield block


def _read(stream: BinaryIO, size: int, uri: str) -> bytes:
    """The next `size` bytes, fewer only at the end: zstd data breaks at a chunk, so chunks must not vary."""
    try:
        data = stream.read(size)
        while data and len(data) < size and (more := stream.read(size - len(data))):
            data += more
    except OSError as error:
        raise unreadable(uri, error) from error
    return data


def _chunks(stream: BinaryIO, uri: str, size: int, head: bytes) -> Iterator[bytes]:
    if not head:
        return
    yield head + _read(stream, size, uri)
    while block := _read(stream, size, uri):
        yield block


def gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The members of a gzip file one after the other, each checked against its CRC by zlib.

    Raises:
        BrokenStreamError: as `blocks`; also for bytes after the last member that are no padding.
    """
    decoder = zlib.decompressobj(31)
    fed = False
    for chunk in chunks:
        data = chunk
        while data:
            if not fed and decoder.eof is False:
                # Between members: zero padding (tape blocks, some writers) is legal, anything else is not.
                data = data.lstrip(b"\0")
                if not data:
                    break
            snapshot = decoder.copy()
            try:
                out = decoder.decompress(data, OUTPUT_BYTES)
            except zlib.error as error:
                yield from before_break(snapshot, data)
                raise BrokenStreamError(f"corrupt gzip: {zlib_reason(error)}") from None
            fed = True
            if out:
                yield out
            if decoder.eof:
                data = decoder.unused_data
                decoder, fed = zlib.decompressobj(31), False
            else:
                data = decoder.unconsumed_tail
    if fed:
        yield from _rest(decoder)
        if not decoder.eof:
            raise BrokenStreamError("truncated gzip: the file ends inside a member")


def _rest(decoder: zlib._Decompress) -> Iterator[bytes]:
    if out := decoder.flush():
        yield out


def before_break(decoder: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """What `data` holds before the byte that zlib refuses: fed one byte at a time from the last good state."""
    good = []
    try:
        for position in range(len(data)):
            good.append(decoder.decompress(data[position : position + 1]))
    except zlib.error:
        pass
    if out := b"".join(good):
        yield out


def zlib_reason(error: zlib.error) -> str:
    return str(error).split(": ", 1)[-1].split("while decompressing")[-1].strip()


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    decoder = context.decompressobj()
    fed = False
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        data = chunk
        while data:
            try:
                out = decoder.decompress(data)
            except zstandard.ZstdError as error:
                if held:
                    yield b"".join(held)
                raise BrokenStreamError(f"corrupt zstd: {_zstd_reason(error)}") from None
            fed = True
            if out:
                held.append(out)
                size += len(out)
            data = decoder.unused_data if decoder.eof else b""
            if decoder.eof:
                decoder, fed = context.decompressobj(), False
        if size >= OUTPUT_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
    if fed:
        raise BrokenStreamError("truncated zstd: the file ends inside a frame")


def _zstd_reason(error: zstandard.ZstdError) -> str:
    return str(error).rsplit(": ", 1)[-1]

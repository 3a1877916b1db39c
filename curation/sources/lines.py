"""A byte stream as lines with their offsets, bounded in memory: what the line-wise sources (jsonl, txt) read.

A range owns the lines that begin at start < offset <= stop, and the first range also the one at 0: every line belongs
to exactly one range, wherever the cuts fall. A range of a plain file is read from its own first byte on; one of a
compressed file decodes what stands before it and drops it unseen. Where a compressed stream breaks, the range that
owns the line cut in two reports it, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from curation.document import DeadLetter
from curation.sources.base import (
    RAW_CHARS,
    FileOpener,
    Limits,
    Split,
    byte_ranges,
    dead_letter,
    decompressed_ranges,
)
from curation.sources.streams import (
    BrokenStreamError,
    blocks,
    blocks_from,
    compression_of,
    decompressed_size,
    head_of,
)

HEAD_BYTES = 4 * RAW_CHARS  # no character takes more than four


class Line(NamedTuple):
    """One line without its newline, and its byte offset in the decompressed stream."""

    data: bytes
    offset: int


@dataclass(frozen=True)
class Run:
    """Lines that follow each other without a gap, the first at `offset`; then, perhaps, a record that is lost."""

    offset: int
    lines: list[bytes] = field(default_factory=list)
    dead: DeadLetter | None = None


def line_ranges(uri: str, fmt: str, opener: FileOpener, target_bytes: int) -> list[Split]:
    """Splits of a file of lines, of about `target_bytes` of decompressed bytes each."""
    size = decompressed_size(uri, opener)
    if compression_of(head_of(uri, opener)):
        return decompressed_ranges(uri, fmt, size, target_bytes)
    return byte_ranges(uri, fmt, size, size, target_bytes, size)


def lines_of(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Run]:
    """The lines of a split in runs of about 1 MiB, each line once; lost ones as dead letters.

    Lost are a line longer than `limits.max_record_bytes`, which is skipped without being held, and what stands at the
    break of a compressed stream. A last line without a newline counts.
    """
    stop = split.last
    carry: list[bytes] = []  # the pieces of a line whose newline has not come yet
    carried = 0
    offset = split.start  # of the first byte of `carry`
    # A range that begins inside the file gives its first, perhaps partial, line to the range before.
    skip = split.start > 0
    entered = not skip
    is_decoded = split.unit == "decompressed"
    read = blocks_from if is_decoded else blocks
    try:
        for block in read(split.uri, opener, split.start):
            # Past a giant line of its own a range of a compressed file reads on: the break inside it is its to report.
            if skip and stop is not None and offset > stop and not (entered and is_decoded):
                return
            newline = block.find(b"\n")
            if newline < 0:
                if skip:
                    offset += len(block)
                    continue
                carry.append(block)
                carried += len(block)
                if carried > limits.max_record_bytes:
                    yield Run(offset, dead=_giant(split.uri, offset, carry, limits))
                    offset, skip, carry, carried = offset + carried, True, [], 0
                continue
            if skip:
                offset, skip, entered = offset + newline + 1, False, True
                body = block[newline + 1 :]
            else:
                body = b"".join([*carry, block])
            lines = body.split(b"\n")
            rest = lines.pop()
            yield from _own(split.uri, offset, lines, stop, limits)
            offset += len(body) - len(rest)
            if stop is not None and offset > stop:
                return
            carry, carried = ([rest], len(rest)) if rest else ([], 0)
    except BrokenStreamError as error:
        # The record that the break cut in two cannot be read; what stood before it has been handed out. A range that
        # the break is before has not found the end of a line.
        if entered:
            yield Run(offset, dead=dead_letter(split.uri, offset, error.problems[0].message, _head(carry)))
        return
    if carry:
        yield from _own(split.uri, offset, [b"".join(carry)], stop, limits)


def _own(uri: str, offset: int, lines: list[bytes], stop: int | None, limits: Limits) -> Iterator[Run]:
    """The lines that begin at or before `stop`, without those that are too long."""
    if stop is not None:
        end = offset
        for count, line in enumerate(lines):
            if end > stop:
                lines = lines[:count]
                break
            end += len(line) + 1
    first = 0
    for index, line in enumerate(lines):
        if len(line) > limits.max_record_bytes:
            good = lines[first:index]
            at = offset + sum(len(each) + 1 for each in good)
            yield Run(offset, good, _giant(uri, at, [line], limits))
            offset, first = at + len(line) + 1, index + 1
    if first < len(lines):
        yield Run(offset, lines[first:])


def _giant(uri: str, offset: int, pieces: list[bytes], limits: Limits) -> DeadLetter:
    return dead_letter(uri, offset, f"giant record: longer than {limits.max_record_bytes} bytes", _head(pieces))


def _head(pieces: list[bytes]) -> bytes:
    """Enough of a line for a dead letter, wherever the stream was cut into blocks."""
    held = b""
    for piece in pieces:
        held += piece[:HEAD_BYTES]
        if len(held) >= HEAD_BYTES:
            break
    return held

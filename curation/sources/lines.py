"""A byte stream as lines with their offsets, bounded in memory: what the line-wise sources (jsonl, txt) read.

A byte range owns the lines that begin at start < offset <= stop, and the first range also the one at 0: every line
belongs to exactly one range, wherever the cuts fall, and no range looks at a byte before its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from curation.document import DeadLetter
from curation.sources.base import FileOpener, Limits, Split, dead_letter
from curation.sources.streams import BrokenStreamError, blocks


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


def lines_of(split: Split, opener: FileOpener, limits: Limits) -> Iterator[Run]:
    """The lines of a split in runs of about 1 MiB, each line once; lost ones as dead letters.

    Lost are a line longer than `limits.max_record_bytes`, which is skipped without being held, and what stands at the
    break of a compressed stream. A last line without a newline counts.
    """
    stop = split.stop if split.unit == "bytes" else None
    carry: list[bytes] = []  # the pieces of a line whose newline has not come yet
    carried = 0
    offset = split.start  # of the first byte of `carry`
    # A range that begins inside the file gives its first, perhaps partial, line to the range before.
    skip = split.start > 0
    try:
        for block in blocks(split.uri, opener, split.start):
            if skip and stop is not None and offset > stop:
                return
            newline = block.find(b"\n")
            if newline < 0:
                if skip:
                    offset += len(block)
                    continue
                carry.append(block)
                carried += len(block)
                if carried > limits.max_record_bytes:
                    yield Run(offset, dead=_giant(split.uri, offset, carry[0], limits))
                    offset, skip, carry, carried = offset + carried, True, [], 0
                continue
            if skip:
                offset, skip = offset + newline + 1, False
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
        # The record that the break cut in two cannot be read; what stood before it has been handed out.
        cut = carry[0] if carry else b""
        yield Run(offset, dead=dead_letter(split.uri, offset, error.problems[0].message, cut))
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
            yield Run(offset, good, _giant(uri, at, line, limits))
            offset, first = at + len(line) + 1, index + 1
    if first < len(lines):
        yield Run(offset, lines[first:])


def _giant(uri: str, offset: int, head: bytes, limits: Limits) -> DeadLetter:
    return dead_letter(uri, offset, f"giant record: longer than {limits.max_record_bytes} bytes", head)

"""Splits of compressed files: every record once, one dead letter for a break, ranges that follow from the file."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.sources import SOURCES, InputSettings, Limits, LocalFiles, Split, splits_of, streams
from curation.sources.base import MAX_DECOMPRESSED_SPLITS, OPEN_END
from curation.sources.streams import decompressed_size

LINE = st.one_of(
    st.sampled_from([b"", b" ", b"not json", b'{"text": "' + b"long " * 40 + b'"}']),
    st.text(max_size=30).map(lambda text: json.dumps({"text": "t" + text}).encode()),
)


def packed(kind: str, data: bytes, block: int) -> bytes:
    """One member or frame, flushed every `block` bytes so that it decodes piece by piece."""
    packer: Any
    if kind == "gz":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        flush = zlib.Z_FULL_FLUSH
    else:
        packer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    pieces = []
    for start in range(0, len(data), block):
        pieces += [packer.compress(data[start : start + block]), packer.flush(flush)]
    return b"".join([*pieces, packer.flush()])


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """The kind and the bytes of a file: whole, of two members, cut anywhere, or with one changed byte."""
    kind = draw(st.sampled_from(["gz", "zst"]))
    lines = draw(st.lists(LINE, max_size=30))
    data = b"\n".join(lines) + (b"\n" if draw(st.booleans()) else b"")
    block = draw(st.integers(10, 300))
    stored = packed(kind, data, block)
    if draw(st.booleans()):
        stored += packed(kind, data[::-1], block)
    how = draw(st.sampled_from(["whole", "cut", "changed"]))
    at = draw(st.integers(0, len(stored) - 1))
    if how == "cut":
        stored = stored[:at]
    elif how == "changed":
        stored = stored[:at] + bytes([stored[at] ^ draw(st.integers(1, 255))]) + stored[at + 1 :]
    return kind, stored


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks so small that a short file has many of them."""
    monkeypatch.setattr(streams, "READ_BYTES", 512)
    monkeypatch.setattr(streams, "OUTPUT_BYTES", 64)
    monkeypatch.setattr(streams, "ZSTD_READ_BYTES", 32)


@settings(max_examples=400)
@given(file=damaged(), target=st.integers(1, 400), giant=st.sampled_from([60, 150, 1 << 20]))
def test_splits_of_any_size_read_what_one_task_reads(
    file: tuple[str, bytes], target: int, giant: int, tmp_path: Path, read: Callable[..., Any], small_blocks: None
) -> None:
    kind, stored = file
    path = tmp_path / f"x.jsonl.{kind}"
    path.write_bytes(stored)
    limits = Limits(max_record_bytes=giant)

    def places(reading: Any) -> Any:
        documents, dead, offsets = reading
        return documents, offsets, [(letter.offset, letter.error) for letter in dead]

    whole, cut = read(path, 1 << 30, limits), read(path, target, limits)
    assert places(cut) == places(whole)
    if giant == 1 << 20:  # the start of a giant record is known as far as it was read when it became one
        assert cut == whole


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("keep", [0.3, 0.5, 0.97])
def test_break_is_one_dead_letter_wherever_it_falls(
    tmp_path: Path, read: Callable[..., Any], kind: str, keep: float
) -> None:
    lines = [json.dumps({"id": str(n), "text": f"{n * 7919 % 100_003} words"}).encode() + b"\n" for n in range(50_000)]
    plain = b"".join(lines)
    whole = gzip.compress(plain) if kind == "gz" else zstandard.compress(plain)
    path = tmp_path / f"x.jsonl.{kind}"
    path.write_bytes(whole[: int(len(whole) * keep)])
    expected = read(path)
    assert len(expected[1]) == 1
    assert len(splits_of(str(path), "jsonl", LocalFiles(), 10_000)) == MAX_DECOMPRESSED_SPLITS
    assert read(path, 10_000) == expected


def test_ranges_are_of_the_decompressed_stream_and_the_last_is_open(tmp_path: Path) -> None:
    plain = b"".join(json.dumps({"text": f"{n * 7919 % 100_003} words"}).encode() + b"\n" for n in range(50_000))
    stored = {
        "jsonl": plain,
        "jsonl.gz": gzip.compress(plain),
        "jsonl.zst": zstandard.compress(plain),
        "txt.zst": zstandard.compress(plain),
    }
    total = len(plain)
    for suffix, data in stored.items():
        path = str(tmp_path / f"x.{suffix}")
        Path(path).write_bytes(data)
        unit, end = ("bytes", total) if suffix == "jsonl" else ("decompressed", OPEN_END)
        fmt = suffix.split(".")[0]
        settings = InputSettings(path=path, text_unit="line")
        assert splits_of(path, fmt, LocalFiles(), total // 2, settings) == [
            Split(path, fmt, 0, total // 2, unit, total // 2),  # type: ignore[arg-type]
            Split(path, fmt, total // 2, end, unit, total - total // 2),  # type: ignore[arg-type]
        ]
        (alone,) = splits_of(path, fmt, LocalFiles(), total, settings)
        assert alone.bytes == total


def test_size_is_what_the_header_says_unless_the_sample_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SAMPLE_BYTES", 1 << 17)
    plain = b"".join(b"%d words\n" % (n * 7919 % 100_003) for n in range(100_000))
    one = zstandard.compress(plain)
    path = tmp_path / "x.zst"
    path.write_bytes(one)
    assert decompressed_size(str(path), LocalFiles()) == len(plain)
    path.write_bytes(one * 5)  # the first frame speaks for a fifth of the file
    assert decompressed_size(str(path), LocalFiles()) == pytest.approx(5 * len(plain), rel=0.2)
    path.write_bytes(zstandard.ZstdCompressor(write_content_size=False).compress(plain))
    assert decompressed_size(str(path), LocalFiles()) == pytest.approx(len(plain), rel=0.2)
    path.write_bytes(gzip.compress(plain))
    assert decompressed_size(str(path), LocalFiles()) == pytest.approx(len(plain), rel=0.05)
    path.write_bytes(plain)
    assert decompressed_size(str(path), LocalFiles()) == len(plain)
    for nothing in (b"", zstandard.compress(b""), b"\x1f\x8b\x08broken"):
        path.write_bytes(nothing)
        assert decompressed_size(str(path), LocalFiles()) == 0


def test_wrong_size_loses_nothing(tmp_path: Path) -> None:
    plain = b'{"text": "one"}\n' * 1000
    path = str(tmp_path / "x.jsonl.gz")
    Path(path).write_bytes(gzip.compress(plain))
    settings, opener = InputSettings(path=path), LocalFiles()
    for guess in (10, 100_000):
        splits = [
            Split(path, "jsonl", 0, guess, "decompressed", guess),
            Split(path, "jsonl", guess, guess * 2, "decompressed", guess),
            Split(path, "jsonl", guess * 2, OPEN_END, "decompressed", guess),
        ]
        counts = [
            sum(len(batch.offsets) for batch in SOURCES.get("jsonl").read(split, opener, settings, Limits()))
            for split in splits
        ]
        assert sum(counts) == 1000


BLANK = [b"", b" \n\t\r\n  \n", b"\n" * 3000]
SUFFIXES = [
    "jsonl",
    "jsonl.gz",
    "jsonl.zst",
    "txt",
    "txt.gz",
    "parquet",
    "arrow",
    "warc",
    "warc.gz",
    "wet",
    "csv",
    "tsv.gz",
]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", BLANK)
def test_file_of_nothing_or_white_space_has_no_documents_and_no_dead_letter(
    tmp_path: Path, read: Callable[..., Any], suffix: str, content: bytes
) -> None:
    path = tmp_path / f"x.{suffix}"
    for stored in (content, gzip.compress(content), zstandard.compress(content)):
        path.write_bytes(stored)
        for unit in ("file", "paragraph", "line"):
            assert read(path, 7, text_unit=unit) == ([], [], [])

"""WARC and WET: pages to documents, every way a record can be broken, splits at gzip members."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curation.document import DeadLetter
from curation.sources import Limits
from curation.sources.http import joined, parse_response

PAGE = (
    "<html><head><title>T</title><meta charset=utf-8></head><body><nav><a href=/>Home</a></nav>"
    "<article><h1>Rivers</h1><p>{} A river is a natural stream of water that flows towards an ocean, a lake or "
    "another river, and it is the subject of this paragraph.</p></article></body></html>"
)


def record(kind: str, block: bytes, number: int = 0, length: int | None = None, **fields: str) -> bytes:
    """One WARC record as bytes; `length` lies about the block."""
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number:08d}>",
        "WARC-Date": "2024-05-18T01:58:10Z",
        "WARC-Target-URI": f"http://example.org/{number}",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "text/plain",
        **{name.replace("_", "-"): value for name, value in fields.items()},
        "Content-Length": str(len(block) if length is None else length),
    }
    head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + block + b"\r\n\r\n"


def http(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "text/html", **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + body


def page(number: int, text: str = "") -> bytes:
    return record("response", http(PAGE.format(text or f"Page {number}.").encode()), number)


def first_words(documents: list[dict[str, Any]]) -> list[str]:
    return [document["text"].split("\n")[-1].split(" A river")[0] for document in documents]


def test_page_becomes_a_document_without_its_navigation(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "crawl.warc.gz"
    path.write_bytes(gzip.compress(record("warcinfo", b"x")) + gzip.compress(page(1)))
    documents, dead, offsets = read(path)
    assert dead == []
    assert offsets == [len(gzip.compress(record("warcinfo", b"x")))]
    (document,) = documents
    assert "Page 1. A river is a natural stream" in document.pop("text")
    assert document == {
        "doc_id": "urn:uuid:00000001",
        "source": "crawl",
        "url": "http://example.org/1",
        "metadata": '{"warc-date":"2024-05-18T01:58:10Z"}',
    }


@pytest.mark.parametrize("extractor", ["trafilatura", "resiliparse"])
def test_both_extractors_find_the_article(tmp_path: Path, read: Callable[..., Any], extractor: str) -> None:
    if extractor == "resiliparse":
        pytest.importorskip("resiliparse")
    path = tmp_path / "x.warc"
    path.write_bytes(page(1))
    (document,) = read(path, extractor=extractor)[0]
    assert "A river is a natural stream" in document["text"]
    assert "Home" not in document["text"]


def test_what_is_no_page_leaves_no_trace(tmp_path: Path, read: Callable[..., Any]) -> None:
    html = PAGE.format("x").encode()
    path = tmp_path / "x.warc"
    path.write_bytes(
        record("request", b"GET / HTTP/1.1\r\n\r\n")
        + record("response", http(html, "404 Not Found"))
        + record("response", http(html, "301 Moved"))
        + record("response", http(b"\x89PNG", Content_Type="image/png"))
        + record("response", http(b"", Content_Type="text/html"))
        + record("response", http(b'{"a": 1}', Content_Type=""))
        + record("response", b"20240518 1.2.3.4", WARC_Target_URI="dns:example.org", Content_Type="text/dns")
        + record("resource", b"log", WARC_Target_URI="metadata://gnu.org/wget.log")
        + record("resource", b"\x89PNG", Content_Type="image/png")
        + record("revisit", http(html))
        + record("metadata", b"x: y")
    )
    assert read(path) == ([], [], [])


def test_resources_and_conversions_are_documents(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "x.warc.wet.gz"
    path.write_bytes(
        gzip.compress(record("conversion", "Größe\nzwei".encode(), 1, WARC_Identified_Content_Language="deu"))
        + gzip.compress(record("resource", b"plain \xe9", 2, Content_Type="text/plain; charset=latin-1"))
        + gzip.compress(record("resource", PAGE.format("Three.").encode(), 3, Content_Type="text/html"))
        + gzip.compress(record("conversion", b"bad \xff", 4))
        + gzip.compress(record("conversion", b" \n", 5))
    )
    documents, dead, _ = read(path)
    assert [document["text"] for document in documents][:2] == ["Größe\nzwei", "plain é"]
    assert first_words(documents[2:]) == ["Three."]
    assert documents[0]["metadata"] == ('{"warc-date":"2024-05-18T01:58:10Z","warc-identified-content-language":"deu"}')
    assert [(letter.error, letter.raw) for letter in dead] == [
        ("bad UTF-8: invalid start byte at byte 4 of the text", "http://example.org/4"),
        ("empty text", "http://example.org/5"),
    ]


def test_bodies_are_dechunked_decompressed_and_decoded() -> None:
    text = "Ünïcödé " * 3
    chunked = b"".join(b"%x\r\n%s\r\n" % (5, text.encode()[at : at + 5]) for at in range(0, 30, 5)) + b"0\r\n\r\n"
    bodies = [
        (http(chunked, Transfer_Encoding="chunked"), text.encode()[:30]),
        (http(text.encode(), Transfer_Encoding="chunked"), text.encode()),  # says chunked, is not
        (http(gzip.compress(text.encode()), Content_Encoding="gzip"), text.encode()),
        (http(text.encode(), Content_Encoding="gzip"), text.encode()),  # says gzip, is not
        (http(zlib.compress(text.encode()), Content_Encoding="deflate"), text.encode()),
        (http(zlib.compress(text.encode())[2:-4], Content_Encoding="deflate"), text.encode()),
        (http(zstandard.compress(text.encode()), Content_Encoding="zstd"), text.encode()),
        (http(gzip.compress(text.encode())[:-10], Content_Encoding="gzip"), text.encode()),  # cut by the crawler
    ]
    for block, expected in bodies:
        response = parse_response(block, 1 << 20)
        assert (response.status, response.media_type) == (200, "text/html")
        assert expected.startswith(response.body)
        assert len(response.body) >= len(expected) // 3
    assert parse_response(http(b"", Content_Type='Text/HTML; Charset="KOI8-R"'), 1).charset == "KOI8-R"
    assert joined(b"3;ext=1\r\nabc\r\n2\r\nde\r\nzz") == b"abcde"


def test_broken_pages_are_dead_letters_with_their_url(tmp_path: Path, read: Callable[..., Any]) -> None:
    bomb = gzip.compress(bytes(5000))
    blocks = [
        b"not http at all",
        http(b"<html><body></body></html>"),
        http(PAGE.format("x" * 3000).encode()),
        http(bomb, Content_Encoding="gzip"),
    ]
    path = tmp_path / "x.warc"
    data, starts = b"", []
    for number, block in enumerate(blocks):
        starts.append(len(data))
        data += record("response", block, number) + page(90 + number)
    path.write_bytes(data)
    documents, dead, _ = read(path, limits=Limits(max_text_bytes=3000, max_record_bytes=4000))
    assert first_words(documents) == ["Page 90.", "Page 91.", "Page 92.", "Page 93."]
    size = len(PAGE.format("x" * 3000))
    assert dead == [
        DeadLetter(str(path), starts[0], "no HTTP status line", "http://example.org/0"),
        DeadLetter(str(path), starts[1], "no text in the page", "http://example.org/1"),
        DeadLetter(str(path), starts[2], f"giant page: {size} bytes, the limit is 3000", "http://example.org/2"),
        DeadLetter(str(path), starts[3], "giant page: more than 4000 bytes when decompressed", "http://example.org/3"),
    ]


def test_broken_records_cost_themselves_and_the_next_is_found(tmp_path: Path, read: Callable[..., Any]) -> None:
    giant = record("response", http(b"x" * 5000), 3)
    no_length = page(2).replace(b"Content-Length", b"Content-Lengthy")
    parts = [page(0), b"rubbish\r\nmore rubbish\r\n", page(1), no_length, giant, page(4), page(5)[:-200]]
    starts = [sum(map(len, parts[:index])) for index in range(len(parts))]
    path = tmp_path / "x.warc"
    path.write_bytes(b"".join(parts))
    documents, dead, _ = read(path, limits=Limits(max_record_bytes=4000))
    assert first_words(documents) == ["Page 0.", "Page 1.", "Page 4."]
    block = len(page(5)) - 4 - page(5).index(b"\r\n\r\n") - 4
    assert dead == [
        DeadLetter(str(path), starts[1], "no WARC header where a record should begin", "rubbish\r\n"),
        DeadLetter(str(path), starts[3], "no valid Content-Length: ``", "http://example.org/2"),
        DeadLetter(str(path), starts[4], "giant record: longer than 4000 bytes", "http://example.org/3"),
        DeadLetter(str(path), starts[6], f"truncated record: {block - 196} of {block} bytes", "http://example.org/5"),
    ]


def test_file_that_ends_inside_a_header_and_a_file_of_another_kind(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "x.warc"
    path.write_bytes(page(0) + page(1)[:40])
    reason = "truncated record: the file ends inside its header"
    documents, dead, _ = read(path)
    assert (first_words(documents), dead) == (["Page 0."], [DeadLetter(str(path), len(page(0)), reason, "")])
    arc = tmp_path / "arc.warc"
    arc.write_bytes(b"filedesc://x.arc 0.0.0.0\n1 0 Net\n")
    error = "no WARC header where a record should begin"
    assert read(arc) == ([], [DeadLetter(str(arc), 0, error, "filedesc://x.arc 0.0.0.0\n")], [])


def members(*records: bytes) -> tuple[list[bytes], list[int]]:
    """Each record as a gzip member, and where each begins."""
    packed = [gzip.compress(each) for each in records]
    return packed, [sum(map(len, packed[:index])) for index in range(len(packed))]


def test_broken_gzip_member_costs_one_record(tmp_path: Path, read: Callable[..., Any]) -> None:
    packed, starts = members(page(0), page(1), page(2), page(3), page(4))
    packed[1] = packed[1][:-8] + bytes(4) + packed[1][-4:]  # checksum
    packed[2] = b"\x00\x01\x02" + packed[2][3:]  # no gzip any more
    path = tmp_path / "x.warc.gz"
    path.write_bytes(b"".join(packed)[:-20])
    for target in (1 << 30, 700, 300, 50, 7):
        documents, dead, offsets = read(path, target)
        # Page 1 was complete before its checksum came; that the checksum is wrong is said beside it.
        assert first_words(documents) == ["Page 0.", "Page 1.", "Page 3."], target
        assert offsets == [starts[0], starts[1], starts[3]]
        assert dead == [
            DeadLetter(
                str(path), starts[1], f"corrupt gzip: incorrect data check; the next record is at byte {starts[3]}", ""
            ),
            DeadLetter(str(path), starts[4], "truncated gzip: the file ends inside a member", ""),
        ]


@given(at=st.integers(2, 1900), value=st.integers(0, 255), cut=st.integers(0, 400), target=st.integers(1, 2500))
def test_damage_anywhere_reads_the_same_whatever_the_splits(
    at: int, value: int, cut: int, target: int, tmp_path: Path, read: Callable[..., Any]
) -> None:
    texts = [f"{number} " + "words that differ " * (number * 7 % 5 + 1) + str(number**9) for number in range(10)]
    packed, _ = members(*(record("conversion", text.encode(), number) for number, text in enumerate(texts)))
    data = bytearray(b"".join(packed))
    data[at] = value  # behind the magic number of the file, without which it is no gzip at all
    path = tmp_path / "x.wet.gz"
    path.write_bytes(data[: len(data) - cut])
    whole = read(path)
    assert read(path, target) == whole
    lost = len(texts) - len(whole[0])
    assert lost <= 2 + cut // 150
    assert bool(whole[1]) >= bool(lost)


def test_length_that_lies_does_not_swallow_the_next_member(tmp_path: Path, read: Callable[..., Any]) -> None:
    lying = record("response", http(PAGE.format("Lies.").encode()), 1, length=100_000)
    short = record("response", http(PAGE.format("Short.").encode()), 3, length=150)
    packed, starts = members(page(0), lying, page(2), short, page(4))
    path = tmp_path / "x.warc.gz"
    path.write_bytes(b"".join(packed))
    documents, dead, _ = read(path)
    assert [document["doc_id"][-1] for document in documents if "river" in document["text"]] == ["0", "2", "4"]
    assert [
        (letter.offset, letter.error.split(":")[0].split(",")[0]) for letter in dead if letter.offset == starts[1]
    ] == [(starts[1], "truncated record")]
    assert {letter.offset for letter in dead} == {starts[1], starts[3]}


def test_record_over_several_members_is_put_together(tmp_path: Path, read: Callable[..., Any]) -> None:
    whole = page(1)
    path = tmp_path / "x.warc.gz"
    path.write_bytes(gzip.compress(page(0)) + gzip.compress(whole[:300]) + gzip.compress(whole[300:]))
    documents, dead, _ = read(path)
    assert (first_words(documents), dead) == (["Page 0.", "Page 1."], [])


def test_single_member_and_zstd_archives_are_read(tmp_path: Path, read: Callable[..., Any]) -> None:
    for name, pack in (("x.warc.gz", gzip.compress), ("x.warc.zst", zstandard.compress), ("x.warc", bytes)):
        path = tmp_path / name
        path.write_bytes(pack(b"".join(page(number) for number in range(5))))
        for target in (1 << 30, 100):
            documents, dead, _ = read(path, target)
            assert (first_words(documents), dead) == ([f"Page {number}." for number in range(5)], [])


@given(sizes=st.lists(st.integers(0, 400), min_size=1, max_size=12), target=st.integers(1, 3000))
def test_splits_of_any_size_read_every_record_once_and_in_order(
    sizes: list[int], target: int, tmp_path: Path, read: Callable[..., Any]
) -> None:
    texts = [f"{number} " + "x" * size for number, size in enumerate(sizes)]
    packed, starts = members(*(record("conversion", text.encode(), number) for number, text in enumerate(texts)))
    path = tmp_path / "x.wet.gz"
    path.write_bytes(b"".join(packed))
    documents, dead, offsets = read(path, target)
    assert ([document["text"] for document in documents], dead, offsets) == (texts, [], starts)


REAL = {  # documents, then (offset, reason) of the dead letters
    "cc_whirlwind/whirlwind.warc": (1, []),
    "cc_whirlwind/whirlwind.warc.gz": (1, []),
    "cc_whirlwind/whirlwind.warc.wet": (1, []),
    "cc_whirlwind/whirlwind.warc.wet.gz": (1, []),
    "dolma/sample-0000.warc.gz": (22, []),
    "warcio/bad.arc": (0, [(0, "no WARC header where a record should begin")]),
    "warcio/example.arc.gz": (0, [(0, "no WARC header where a record should begin")]),
    "warcio/example.warc": (1, []),
    "warcio/example.warc.gz": (1, []),
    "warcio/example-bad-non-chunked.warc.gz": (1, []),
    "warcio/example-bad.warc.gz.bad": (1, []),
    "warcio/example-digest.warc": (0, []),
    "warcio/example-iana.org-chunked.warc": (1, []),
    "warcio/example-resource.warc.gz": (1, []),
    "warcio/example-space-in-target-uri.warc.gz": (0, []),
    "warcio/example-trunc.warc": (1, [(2560, "no WARC header where a record should begin")]),
    "warcio/example-wget-bad-target-uri.warc.gz": (1, []),
    "warcio/example-wrong-chunks.warc.gz": (1, []),
    "warcio/post-test.warc.gz": (0, []),
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_real_and_really_broken_archives(data: Path, read: Callable[..., Any], name: str) -> None:
    for target in (1 << 30, 1000):
        documents, dead, _ = read(data / "formats" / name, target, format="wet" if ".wet" in name else "warc")
        found = (len(documents), [(letter.offset, letter.error) for letter in dead])
        assert found == REAL[name]

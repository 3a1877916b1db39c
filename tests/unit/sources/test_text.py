"""Plain text as files, paragraphs and lines."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from curation.document import DeadLetter, doc_id_of
from curation.sources import Limits, LocalFiles, splits_of


def test_file_is_one_document(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "essay.txt"
    path.write_text("\ufeffOne line.\n\nAnother – line.\n", encoding="utf-8")
    text = "One line.\n\nAnother – line.\n"
    documents, dead, offsets = read(path)
    assert (dead, offsets) == ([], [0])
    assert documents == [
        {"doc_id": doc_id_of("essay", None, text), "text": text, "source": "essay", "url": None, "metadata": None}
    ]


def test_paragraphs_and_lines_are_documents_with_their_offsets(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\n\none\ntwo\n \nthree\r\n\r\nfour")
    for file in (path, tmp_path / "x.txt.gz"):
        if file.suffix == ".gz":
            file.write_bytes(gzip.compress(path.read_bytes()))
        documents, dead, offsets = read(file, text_unit="paragraph")
        assert ([d["text"] for d in documents], dead, offsets) == (["one\ntwo", "three\r", "four"], [], [2, 12, 21])
        documents, dead, offsets = read(file, text_unit="line")
        assert ([d["text"] for d in documents], dead, offsets) == (["one", "two", "three", "four"], [], [2, 6, 12, 21])


def test_bad_texts_are_dead_letters(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"good\na\xff\n" + b"x" * 30 + b"\nfine")
    limits = Limits(max_text_bytes=20)
    documents, dead, _ = read(path, limits=limits, text_unit="line")
    assert [d["text"] for d in documents] == ["good", "fine"]
    assert dead == [
        DeadLetter(str(path), 5, "bad UTF-8: invalid start byte at byte 1 of the text", "a\\xff"),
        DeadLetter(str(path), 8, "giant text: 30 bytes, the limit is 20", "x" * 30),
    ]
    documents, dead, _ = read(path, limits=limits, text_unit="paragraph")
    assert (documents, dead) == ([], [DeadLetter(str(path), 0, "giant text: 43 bytes, the limit is 20", "good")])
    raw = "good\na\\xff\n" + "x" * 30 + "\nfine"
    documents, dead, _ = read(path, limits=limits)
    assert (documents, dead) == ([], [DeadLetter(str(path), 0, "giant text: more than 20 bytes", raw)])
    blank = tmp_path / "blank.txt"
    blank.write_bytes(b" \n")
    assert read(blank) == ([], [], [])
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(b"a text that is cut")[:-9])
    reason = "truncated gzip: the file ends inside a member"
    documents, dead, _ = read(cut)
    assert (documents, [(d.offset, d.error) for d in dead]) == ([], [(0, reason)])


@given(text=st.text(alphabet="ab \n\r", max_size=60), target=st.integers(1, 80))
def test_splits_of_any_size_read_every_line_once(
    text: str, target: int, tmp_path: Path, read: Callable[..., Any]
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(text.encode())
    whole = read(path, text_unit="line")
    assert read(path, target, text_unit="line") == whole
    assert [d["text"] for d in whole[0]] == [line.removesuffix("\r") for line in text.split("\n") if line.strip()]


def test_files_and_paragraphs_are_never_split(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n" * 1000)
    assert [(split.unit, split.bytes) for split in splits_of(str(path), "txt", LocalFiles(), 10)] == [("file", 2000)]

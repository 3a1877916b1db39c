"""CSV and TSV: cells to columns, every kind of bad row, offsets of rows that span lines."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.document import DeadLetter, doc_id_of
from curation.errors import ConfigError
from curation.sources import Limits


def test_cells_become_columns_and_the_others_metadata(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "posts.csv"
    data = b'\xef\xbb\xbfid,text,url,score,score\r\n1,"one, two\r\nand ""three""",http://x.org/,5,\r\n\r\n,zw\xc3\xb6lf,,,6\r\n'
    path.write_bytes(data)
    documents, dead, offsets = read(path)
    assert (dead, offsets) == ([], [28, data.index(b",zw")])
    assert documents == [
        {
            "doc_id": "1",
            "text": 'one, two\r\nand "three"',
            "source": "posts",
            "url": "http://x.org/",
            "metadata": '{"score":"5"}',
        },
        {
            "doc_id": doc_id_of("posts", None, "zwölf"),
            "text": "zwölf",
            "source": "posts",
            "url": None,
            "metadata": '{"score.5":"6"}',
        },
    ]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.csv", "|"), ("a.tsv", "\t"), ("a.csv", "\t")])
def test_the_header_says_the_delimiter(tmp_path: Path, read: Callable[..., Any], name: str, delimiter: str) -> None:
    for path, pack in ((tmp_path / name, bytes), (tmp_path / f"{name}.gz", gzip.compress)):
        path.write_bytes(pack(f"id{delimiter}body\n7{delimiter}a, b\n".encode()))
        documents, dead, _ = read(path, text_field="body")
        assert [(d["doc_id"], d["text"], d["source"]) for d in documents] == [("7", "a, b", "a")]
        assert dead == []


BAD_ROWS = [
    (b"a,b,c", "bad CSV: 3 cells in the row, 2 in the header"),
    (b"a", "bad CSV: 1 cells in the row, 2 in the header"),
    (b'1,"a"b', "bad CSV: ',' expected after '\"'"),
    (b"1,a\xff", "bad UTF-8: invalid start byte at byte 3 of line 1 of the record"),
    (b"1,", "empty text"),
    (b"1," + b"x" * 101, "giant text: 101 bytes, the limit is 100"),
]


def test_every_kind_of_bad_row_is_one_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    data, expected = b"id,text\n", []
    path = tmp_path / "bad.csv"
    for row, error in BAD_ROWS:
        expected.append(DeadLetter(str(path), len(data), error, row.decode("utf-8", "backslashreplace")))
        data += row + b"\n2,good\n"
    path.write_bytes(data)
    documents, dead, _ = read(path, limits=Limits(max_text_bytes=100))
    assert dead == expected
    assert [document["text"] for document in documents] == ["good"] * len(BAD_ROWS)


def test_a_quote_that_never_closes_costs_its_line(
    tmp_path: Path, read: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'id,text\n1,good\n2,"open\n3,good\n4,good\n')
    documents, dead, offsets = read(path)
    assert [document["doc_id"] for document in documents] == ["1", "3", "4"]
    assert offsets == [8, 23, 30]
    assert dead == [DeadLetter(str(path), 15, "bad CSV: unexpected end of data", '2,"open')]
    monkeypatch.setattr("curation.sources.csv_rows.RETRY_BYTES", 10)
    documents, dead, _ = read(path)
    assert [document["doc_id"] for document in documents] == ["1"]
    lost = "bad CSV: unexpected end of data; 3 lines lost"
    assert dead == [DeadLetter(str(path), 15, lost, '2,"open\n3,good\n4,good')]


def test_a_file_cut_in_a_row_keeps_the_rows_before(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "x.csv.gz"
    whole = "id,text\n" + "".join(f'{n},"{n * 7919 % 10007} words\nin two lines"\n' for n in range(5000))
    path.write_bytes(gzip.compress(whole.encode())[:-3000])
    documents, dead, _ = read(path)
    assert [document["doc_id"] for document in documents] == [str(n) for n in range(len(documents))]
    assert len(documents) > 4000
    assert dead[0].error == "truncated gzip: the file ends inside a member"
    assert len(dead) <= 2


def test_a_file_without_a_text_column_names_its_columns(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"id,words\n1,a\n")
    with pytest.raises(ConfigError) as found:
        read(path)
    assert (found.value.problems[0].code, found.value.problems[0].expected) == (
        "no-text-field",
        "one of its columns: id, words",
    )


CELL = st.text(alphabet='ab,;"\n\r\t é', max_size=12)


@given(cells=st.lists(CELL, max_size=20), batch=st.integers(1, 5))
def test_what_the_csv_module_writes_is_read(
    cells: list[str], batch: int, tmp_path: Path, read: Callable[..., Any]
) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([["id", "text"], *([str(n), f"t{cell}"] for n, cell in enumerate(cells))])
    path = tmp_path / "x.csv"
    path.write_bytes(out.getvalue().encode())
    documents, dead, _ = read(path, limits=Limits(batch_documents=batch))
    assert dead == []
    assert [(d["doc_id"], d["text"]) for d in documents] == [(str(n), f"t{cell}") for n, cell in enumerate(cells)]

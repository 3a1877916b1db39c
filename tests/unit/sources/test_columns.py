"""Parquet and Arrow: columns to documents, bad rows to dead letters, row groups to splits."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.document import DeadLetter, doc_id_of
from curation.errors import ConfigError, StageError
from curation.sources import Limits, LocalFiles, splits_of


def save(table: pa.Table, path: Path, **options: Any) -> Path:
    """`table` in the format of the suffix."""
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=options.get("row_group_size", 1000))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_columns_become_documents(tmp_path: Path, read: Callable[..., Any], suffix: str) -> None:
    table = pa.table(
        {
            "id": pa.array([1, None, 3], pa.int64()),
            "text": pa.array(["one", "zwölf ☃", "three"], pa.large_string()),
            "url": ["http://x.org/", "", None],
            "source": pa.array(["forum", None, "forum"]).dictionary_encode(),
            "score": [0.5, None, 2.0],
            "when": pa.array([datetime.datetime(2020, 1, 2), None, None], pa.timestamp("us")),
            "tags": [["a"], [], None],
        }
    )
    documents, dead, offsets = read(save(table, tmp_path / f"shard-1{suffix}"))
    assert dead == []
    assert offsets == [0, 1, 2]
    assert documents == [
        {
            "doc_id": "1",
            "text": "one",
            "source": "forum",
            "url": "http://x.org/",
            "metadata": '{"score":0.5,"tags":["a"],"when":"2020-01-02T00:00:00"}',
        },
        {
            "doc_id": doc_id_of("shard-1", None, "zwölf ☃"),
            "text": "zwölf ☃",
            "source": "shard-1",
            "url": None,
            "metadata": '{"tags":[]}',
        },
        {"doc_id": "3", "text": "three", "source": "forum", "url": None, "metadata": '{"score":2.0}'},
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_bad_rows_are_dead_letters_with_their_row_number(tmp_path: Path, read: Callable[..., Any], suffix: str) -> None:
    raw = pa.array([b"good", None, b"", b" \n", b"a\xff\xfe", b"x" * 101, b"good"], pa.binary())
    path = save(pa.table({"text": raw.view(pa.string())}), tmp_path / f"bad{suffix}", row_group_size=2)
    documents, dead, offsets = read(path, limits=Limits(max_text_bytes=100))
    assert [document["text"] for document in documents] == ["good", "good"]
    assert offsets == [0, 6]
    assert dead == [
        DeadLetter(str(path), 1, "the text field `text` is null, not a string", ""),
        DeadLetter(str(path), 2, "empty text", ""),
        DeadLetter(str(path), 3, "empty text", ""),
        DeadLetter(str(path), 4, "bad UTF-8: invalid start byte at byte 1 of the text", "a\\xff\\xfe"),
        DeadLetter(str(path), 5, "giant text: 101 bytes, the limit is 100", "x" * 101),
    ]


def test_own_output_reads_back_as_it_was(tmp_path: Path, read: Callable[..., Any]) -> None:
    rows = [
        {"doc_id": "a", "text": "one", "source": "s", "url": "u", "metadata": '{"k":1}'},
        {"doc_id": "b", "text": "two", "source": "t", "url": None, "metadata": None},
    ]
    path = save(pa.Table.from_pylist(rows), tmp_path / "part-0.parquet")
    assert read(path)[0] == rows


def test_text_that_is_no_string_and_a_missing_column(tmp_path: Path, read: Callable[..., Any]) -> None:
    numbers = save(pa.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    reason = "the text field `text` is int64, not a string"
    assert read(numbers) == ([], [DeadLetter(str(numbers), row, reason, "") for row in (0, 1)], [])
    without = save(pa.table({"words": ["a"]}), tmp_path / "without.parquet")
    with pytest.raises(ConfigError) as found:
        read(without)
    problem = found.value.problems[0]
    assert (problem.code, problem.where, problem.expected) == (
        "no-text-field",
        str(without),
        "one of its columns: words",
    )
    assert [document["text"] for document in read(without, text_field="words")[0]] == ["a"]


@given(rows=st.integers(0, 40), group=st.integers(1, 10), target=st.integers(1, 3000), batch=st.integers(1, 7))
def test_splits_of_any_size_read_every_row_once_and_in_order(
    rows: int, group: int, target: int, batch: int, tmp_path: Path, read: Callable[..., Any]
) -> None:
    table = pa.table({"id": [str(n) for n in range(rows)], "text": [f"text {n}" for n in range(rows)]})
    path = save(table, tmp_path / "rows.parquet", row_group_size=group)
    documents, dead, offsets = read(path, target, Limits(batch_documents=batch))
    assert ([document["doc_id"] for document in documents], dead) == ([str(n) for n in range(rows)], [])
    assert offsets == list(range(rows))


def test_corrupt_row_group_is_one_dead_letter_that_counts_its_rows(tmp_path: Path, read: Callable[..., Any]) -> None:
    table = pa.table({"text": [f"text {n * 7919 % 10007}" for n in range(300)]})
    path = save(table, tmp_path / "rows.parquet", row_group_size=100, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[middle : middle + 100] = bytes(100)
    path.write_bytes(data)
    documents, dead, offsets = read(path)
    assert offsets == [*range(100), *range(200, 300)]
    assert len(documents) == 200
    assert [(letter.offset, letter.error.split(": ")[:2]) for letter in dead] == [
        (100, ["unreadable row group 1", "100 rows lost"])
    ]


@pytest.mark.parametrize("name", ["no.parquet", "no.arrow"])
def test_file_of_another_format_is_named(tmp_path: Path, read: Callable[..., Any], name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'{"text": "not columns"}\n' * 10)
    with pytest.raises(StageError) as found:
        read(path)
    assert (found.value.problems[0].code, found.value.problems[0].where) == ("unreadable-input", str(path))


def test_truncated_arrow_stream_keeps_the_batches_before(tmp_path: Path, read: Callable[..., Any]) -> None:
    table = pa.table({"text": [f"text {n}" for n in range(3000)]})
    path = save(table, tmp_path / "rows.arrow", row_group_size=1000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    documents, dead, _ = read(path)
    assert len(documents) == 2000
    assert [(letter.offset, letter.error.split(": ")[0]) for letter in dead] == [(2000, "broken Arrow data")]


def test_row_groups_are_grouped_up_to_the_target(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{n * 7919 % 10007:>1000}" for n in range(100)]})
    path = str(save(table, tmp_path / "rows.parquet", row_group_size=10, compression="none"))
    splits = splits_of(path, "parquet", LocalFiles(), 25_000)
    assert [(split.start, split.stop) for split in splits] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]


def test_hugging_face_folder_reads_back(tmp_path: Path, read: Callable[..., Any]) -> None:
    datasets = pytest.importorskip("datasets")
    from curation.sources.discover import local_files

    made = datasets.Dataset.from_dict({"id": [str(n) for n in range(50)], "text": [f"text {n}" for n in range(50)]})
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(
        str(tmp_path / "hub"), num_shards={"train": 3, "test": 1}
    )
    files = local_files(str(tmp_path / "hub"))
    assert [Path(file).relative_to(tmp_path / "hub").as_posix() for file in files] == [
        "test/data-00000-of-00001.arrow",
        "train/data-00000-of-00003.arrow",
        "train/data-00001-of-00003.arrow",
        "train/data-00002-of-00003.arrow",
    ]
    texts = [document["text"] for file in files[1:] for document in read(Path(file))[0]]
    assert texts == [f"text {n}" for n in range(50)]

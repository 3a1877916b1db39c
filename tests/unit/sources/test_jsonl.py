"""JSON Lines: fields to columns, every kind of bad line, and splits that read each line once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curation.document import DeadLetter, doc_id_of
from curation.errors import StageError
from curation.sources import InputSettings, Limits, LocalFiles, splits_of
from curation.sources.jsonl import JsonLines


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_known_fields_become_columns_and_the_others_metadata(tmp_path: Path, read: Callable[..., Any]) -> None:
    rows = [
        {"id": "a", "text": "one", "source": "forum", "url": "http://x.org/", "z": 1, "b": {"y": None, "x": [1.5]}},
        {"id": 7, "text": "zwölf ☃", "source": 3},
        {"selftext": "three", "title": "t"},
        {"id": None, "content": "four", "url": ""},
        {"id": "e", "raw_content": "five", "metadata": {"k": 1}},
        {"doc_id": "hw-1", "text": "six", "metadata": '{"k":2}'},
    ]
    documents, dead, offsets = read(write(tmp_path / "posts.v1.jsonl", rows))
    assert dead == []
    assert offsets[0] == 0
    assert documents == [
        {
            "doc_id": "a",
            "text": "one",
            "source": "forum",
            "url": "http://x.org/",
            "metadata": '{"b":{"x":[1.5],"y":null},"z":1}',
        },
        {"doc_id": "7", "text": "zwölf ☃", "source": "posts.v1", "url": None, "metadata": '{"source":3}'},
        {
            "doc_id": doc_id_of("posts.v1", None, "three"),
            "text": "three",
            "source": "posts.v1",
            "url": None,
            "metadata": '{"title":"t"}',
        },
        {
            "doc_id": doc_id_of("posts.v1", None, "four"),
            "text": "four",
            "source": "posts.v1",
            "url": None,
            "metadata": '{"id":null,"url":""}',
        },
        {"doc_id": "e", "text": "five", "source": "posts.v1", "url": None, "metadata": '{"k":1}'},
        {"doc_id": "hw-1", "text": "six", "source": "posts.v1", "url": None, "metadata": '{"k":2}'},
    ]


def test_settings_name_other_fields_and_fix_the_source(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = write(tmp_path / "x.jsonl", [{"key": 1, "body": "words", "text": "not this", "link": "u", "source": "s"}])
    documents, dead, _ = read(path, text_field="body", id_field="key", url_field="link", source="fixed")
    assert dead == []
    assert documents == [
        {"doc_id": "1", "text": "words", "source": "fixed", "url": "u", "metadata": '{"source":"s","text":"not this"}'}
    ]


BAD_LINES = [
    (b'{"text": "cut', "bad JSON: Unterminated string starting at at character 9", '{"text": "cut'),
    (b"[1, 2]", "not a JSON object", "[1, 2]"),
    (b'"words"', "not a JSON object", '"words"'),
    (b'{"id": 3}', "no text field: none of text, selftext, content, raw_content", '{"id": 3}'),
    (b'{"text": null}', "the text field `text` is null, not a string", '{"text": null}'),
    (b'{"text": 5}', "the text field `text` is a number, not a string", '{"text": 5}'),
    (b'{"text": true}', "the text field `text` is a boolean, not a string", '{"text": true}'),
    (b'{"text": ["a"]}', "the text field `text` is an array, not a string", '{"text": ["a"]}'),
    (b'{"text": {}}', "the text field `text` is an object, not a string", '{"text": {}}'),
    (b'{"text": ""}', "empty text", '{"text": ""}'),
    (b'{"text": " \\n\\t"}', "empty text", '{"text": " \\n\\t"}'),
    (b'{"text": "' + b"x" * 101 + b'"}', "giant text: 101 bytes, the limit is 100", '{"text": "' + "x" * 101 + '"}'),
    (b'{"text": "a\xff"}', "bad UTF-8: invalid start byte at byte 11 of the record", '{"text": "a\\xff"}'),
    (b'{"text": "a\\ud800b"}', "lone surrogate in the field `text`", '{"text": "a\\ud800b"}'),
    (
        b'{"id": 123456789012345678901, "text": "a"}',
        "the id is a number of more than 64 bits: write it as a string",
        '{"id": 123456789012345678901, "text": "a"}',
    ),
    (b"\x00\x00\x00", "bad JSON: Expecting value at character 0", "\x00\x00\x00"),
    (b"[" * 100_000, "bad JSON: nested too deep", "[" * 200),
]


def test_every_kind_of_bad_line_is_one_dead_letter_and_the_rest_goes_on(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    good = b'{"text": "good"}'
    data, expected = good + b"\n", []
    path = tmp_path / "bad.jsonl"
    for line, error, raw in BAD_LINES:
        expected.append(DeadLetter(str(path), len(data), error, raw))
        data += line + b"\n" + good + b"\n"
    path.write_bytes(data)
    documents, dead, _ = read(path, limits=Limits(max_text_bytes=100))
    assert dead == expected
    assert [document["text"] for document in documents] == ["good"] * (len(BAD_LINES) + 1)


def test_json_that_only_python_writes_is_kept(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "nan.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a", "score": 1}\n{"text": "b", "score": NaN, "i": -Infinity}\n\n  \r\n{"text": "c"}\r\n'
        b'{"text": "d", "tags": ["\\ud83d"], "n": 123456789012345678901234567890}'
    )
    documents, dead, offsets = read(path)
    assert dead == []
    assert [(document["text"], document["metadata"]) for document in documents] == [
        ("a", '{"score":1}'),
        ("b", '{"i":null,"score":null}'),
        ("c", None),
        ("d", '{"n":123456789012345678901234567890,"tags":["\\ud83d"]}'),
    ]
    assert offsets == [0, 29, 78, 93]


def test_deep_metadata_is_kept_as_far_as_python_can_write_it(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "deep.jsonl"
    deep = "[" * 300 + "]" * 300
    path.write_text(f'{{"text": "a", "deep": {deep}}}\n{{"text": "b"}}\n')
    documents, dead, _ = read(path)
    assert dead == []
    assert [document["metadata"] for document in documents] == [f'{{"deep":{deep}}}', None]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz"])
def test_compressed_files_read_as_plain_ones(tmp_path: Path, read: Callable[..., Any], suffix: str) -> None:
    rows = [{"id": str(number), "text": "word " * (number % 50 + 1)} for number in range(5000)]
    plain = write(tmp_path / "plain", rows).read_bytes()
    half = len(plain) // 2  # two members, two frames: cut in the middle of a line
    packed = {
        ".gz": gzip.compress(plain[:half]) + gzip.compress(plain[half:]),
        "zst": zstandard.compress(plain[:half]) + zstandard.compress(plain[half:]),
    }.get(suffix[-3:], plain)
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(packed)
    documents, dead, offsets = read(path)
    assert dead == []
    assert [(document["doc_id"], document["text"]) for document in documents] == [(r["id"], r["text"]) for r in rows]
    assert {document["source"] for document in documents} == {"rows"}
    assert [plain[offset : offset + 1] for offset in offsets] == [b"{"] * len(rows)


def test_zstd_window_of_128_mib_is_read(tmp_path: Path, read: Callable[..., Any]) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    path = tmp_path / "long.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(b'{"text": "x"}\n'))
    assert [document["text"] for document in read(path)[0]] == ["x"]


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_truncated_file_keeps_everything_before_the_break(tmp_path: Path, read: Callable[..., Any], kind: str) -> None:
    lines = [json.dumps({"id": str(n), "text": f"{n * 7919 % 10007} words"}).encode() + b"\n" for n in range(20_000)]
    plain = b"".join(lines)
    packed = gzip.compress(plain) if kind == "gz" else zstandard.compress(plain)
    path = tmp_path / f"cut.jsonl.{kind}"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    documents, dead, offsets = read(path)
    kept = len(documents)
    assert 5_000 < kept < 20_000
    assert [document["doc_id"] for document in documents] == [str(n) for n in range(kept)]
    end = sum(len(line) for line in lines[:kept])
    what = (
        "truncated gzip: the file ends inside a member"
        if kind == "gz"
        else "truncated zstd: the file ends inside a frame"
    )
    assert len(dead) == 1
    assert dead[0] == DeadLetter(str(path), end, what, dead[0].raw)
    assert lines[kept].decode().startswith(dead[0].raw)
    assert offsets[-1] == end - len(lines[kept - 1])


def test_corrupt_gzip_keeps_what_stands_before_the_bad_bytes(tmp_path: Path, read: Callable[..., Any]) -> None:
    lines = [json.dumps({"id": str(n), "text": f"{n * 7919 % 10007} words"}).encode() + b"\n" for n in range(20_000)]
    packed = bytearray(gzip.compress(b"".join(lines[:10_000])) + gzip.compress(b"".join(lines[10_000:])))
    packed[-6] ^= 0xFF  # the checksum of the second member: all of its bytes have been seen by then
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(packed)
    documents, dead, _ = read(path)
    assert [document["doc_id"] for document in documents] == [str(n) for n in range(20_000)]
    assert dead == [DeadLetter(str(path), sum(map(len, lines)), "corrupt gzip: incorrect data check", "")]


def test_bytes_after_the_last_member_are_a_dead_letter_unless_they_are_padding(
    tmp_path: Path, read: Callable[..., Any]
) -> None:
    packed = gzip.compress(b'{"text": "x"}\n')
    padded, dirty = tmp_path / "padded.jsonl.gz", tmp_path / "dirty.jsonl.gz"
    padded.write_bytes(packed + bytes(1000))
    dirty.write_bytes(packed + b"rubbish")
    assert read(padded)[1] == []
    documents, dead, _ = read(dirty)
    assert [document["text"] for document in documents] == ["x"]
    assert dead == [DeadLetter(str(dirty), 14, "corrupt gzip: incorrect header check", "")]


def test_giant_line_is_skipped_without_being_held(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "giant.jsonl"
    giant = b'{"text": "' + b"x" * (5 << 20) + b'"}\n'
    path.write_bytes(b'{"text": "a"}\n' + giant + b'{"text": "b"}\n')
    limits = Limits(max_record_bytes=1 << 20, max_text_bytes=1 << 10)
    for target in (1 << 30, 1 << 20, 100_000):
        documents, dead, _ = read(path, target, limits)
        assert [document["text"] for document in documents] == ["a", "b"]
        reason = "giant record: longer than 1048576 bytes"
        assert dead == [DeadLetter(str(path), 14, reason, '{"text": "' + "x" * 190)]


def test_batches_keep_their_bounds(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [{"text": "x" * 100} for _ in range(1000)])
    settings, opener = InputSettings(path=str(path)), LocalFiles()
    (split,) = splits_of(str(path), "jsonl", opener, 1 << 30)
    by_documents = list(JsonLines().read(split, opener, settings, Limits(batch_documents=300)))
    by_bytes = list(JsonLines().read(split, opener, settings, Limits(batch_bytes=25_000)))
    assert [len(batch.documents) for batch in by_documents] == [300, 300, 300, 100]
    assert [len(batch.documents) for batch in by_bytes] == [250, 250, 250, 250]


LINE = st.one_of(st.just(b""), st.text(max_size=30).map(lambda text: json.dumps({"text": "t" + text}).encode()))


@given(lines=st.lists(LINE, max_size=30), target=st.integers(1, 400), ends=st.booleans())
def test_splits_of_any_size_read_every_line_once_and_in_order(
    lines: list[bytes], target: int, ends: bool, tmp_path: Path, read: Callable[..., Any]
) -> None:
    path = tmp_path / "split.jsonl"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ends else b""))
    whole, cut = read(path), read(path, target)
    assert cut == whole
    assert [document["text"] for document in cut[0]] == [json.loads(line)["text"] for line in lines if line]


def test_splits_are_plain_data_that_adds_up_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "x"}\n' * 100)
    splits = splits_of(str(path), "jsonl", LocalFiles(), 300)
    assert [split.start for split in splits] == [0, *(split.stop for split in splits[:-1])]
    assert splits[-1].stop == 1400 == sum(split.bytes for split in splits)
    assert [type(split).from_json(json.loads(json.dumps(split.to_json()))) for split in splits] == splits


def test_missing_file_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")
    with pytest.raises(StageError) as found:
        splits_of(missing, "jsonl", LocalFiles(), 1000)
    assert (found.value.problems[0].code, found.value.problems[0].where) == ("unreadable-input", missing)


def test_empty_file_has_no_documents(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"")
    assert read(path) == ([], [], [])


def test_shared_corpora_read_without_a_dead_letter(data: Path, read: Callable[..., Any]) -> None:
    documents, dead, _ = read(data / "corpus" / "small_english.jsonl.zst")
    assert dead == []
    assert len(documents) == 2161
    assert len({document["doc_id"] for document in documents}) == 2161

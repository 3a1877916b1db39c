"""Which files an input names, and which format a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.errors import ConfigError, StageError
from curation.sources import SOURCES, InputSettings, LocalFiles, format_of, splits_of
from curation.sources.base import source_name
from curation.sources.discover import data_files, local_files


@pytest.mark.parametrize(
    ("path", "expected", "source"),
    [
        ("a/b.jsonl", "jsonl", "b"),
        ("gs://bucket/c4-train.00000.json.gz", "jsonl", "c4-train.00000"),
        ("x.NDJSON.ZST", "jsonl", "x"),
        ("part-0.parquet", "parquet", "part-0"),
        ("data-00000-of-00001.arrow", "arrow", "data-00000-of-00001"),
        ("CC-MAIN.warc.gz", "warc", "CC-MAIN"),
        ("CC-MAIN.warc.wet.gz", "wet", "CC-MAIN"),
        ("book.v2.txt", "txt", "book.v2"),
    ],
)
def test_format_follows_the_suffix_and_the_source_is_the_rest(path: str, expected: str, source: str) -> None:
    assert format_of(path) == expected
    assert source_name(path) == source


@pytest.mark.parametrize("path", ["x.docx", "README", "a.b/c", "x.jsnol", ".jsonl/"])
def test_unknown_suffix_lists_the_known_ones(path: str) -> None:
    with pytest.raises(ConfigError) as found:
        format_of(path)
    problem = found.value.problems[0]
    assert (problem.code, problem.where) == ("unknown-format", path)
    assert problem.expected is not None
    assert ".jsonl, .ndjson, .parquet" in problem.expected
    assert ".csv" in problem.expected
    assert problem.hint == (
        "did you mean `.jsonl`?" if "jsnol" in path else "say it in the job: {path: ..., format: jsonl}"
    )


def test_unknown_format_and_senseless_target_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown-format"):
        splits_of("x.jsonl", "jsonlines", LocalFiles(), 1)
    with pytest.raises(ConfigError, match="target_bytes is 0"):
        splits_of("x.jsonl", "jsonl", LocalFiles(), 0)


def test_folder_listing_keeps_data_and_leaves_sidecars() -> None:
    listing = [
        "train/data-00001-of-00002.arrow",
        "train/data-00000-of-00002.arrow",
        "train/cache-1f.arrow",
        "train/state.json",
        "train/dataset_info.json",
        "dataset_dict.json",
        "README.md",
        "_SUCCESS",
        ".hidden.jsonl",
        "more.jsonl.gz",
    ]
    assert data_files(listing) == [
        "more.jsonl.gz",
        "train/data-00000-of-00002.arrow",
        "train/data-00001-of-00002.arrow",
    ]


def test_local_paths_globs_and_folders(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.parquet", "deep/.git/d.jsonl", "note.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    root = str(tmp_path)
    assert local_files(root) == [f"{root}/a.jsonl", f"{root}/b.jsonl", f"{root}/deep/c.parquet"]
    assert local_files(f"{root}/*.jsonl") == [f"{root}/a.jsonl", f"{root}/b.jsonl"]
    assert local_files(f"{root}/note.md") == [f"{root}/note.md"]
    for nothing in (f"{root}/*.zip", f"{root}/none", f"{root}/deep/.git"):
        if nothing.endswith(".git"):
            assert local_files(nothing) == [f"{nothing}/d.jsonl"]
        else:
            with pytest.raises(StageError, match="no file to read"):
                local_files(nothing)


def test_every_source_says_what_it_reads() -> None:
    assert SOURCES.names() == ["arrow", "csv", "jsonl", "parquet", "txt", "warc", "wet"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.summary
        assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in source.suffixes)


def test_settings_are_strict() -> None:
    assert InputSettings(path="x").text_unit == "file"
    with pytest.raises(ValueError, match="extra"):
        InputSettings(path="x", textfield="y")  # type: ignore[call-arg]

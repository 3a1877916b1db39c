"""Items in, and a store that refuses what it cannot keep."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from feedback_cases import ranking, store_of

from alignment.annotators import Guidelines
from alignment.feedback.answers import Answer
from alignment.feedback.items import Item, read_items
from alignment.feedback.store import Store
from curation.errors import ConfigError, DataContractError


def test_a_bad_line_costs_no_other_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "items.jsonl"
    good = {"id": "a", "prompt": "p", "responses": ["x", "y"], "models": ["m", "n"], "overlap": True}
    bad = [
        "not json",
        "[]",
        json.dumps({"prompt": 3, "responses": ["x", "y"]}),
        json.dumps({"prompt": "p", "responses": ["x"]}),
        json.dumps({"prompt": "half a pair: \ud800", "responses": ["x", "y"]}),
        json.dumps({"prompt": "p", "responses": ["x"] * 10}),
        json.dumps({"prompt": "p", "responses": ["x", "y"], "models": ["m"]}),
        json.dumps({"prompt": "p", "responses": ["x", "y"], "reponse": 1}),
    ]
    path.write_text("\n".join([*bad, json.dumps(good)]), encoding="utf-8")
    assert read_items(path) == [Item("a", "p", ("x", "y"), ("m", "n"), "", True)]
    said = capsys.readouterr().err
    assert said.count("error[bad-item]") == len(bad)
    assert all(f"{path}:{number}" in said for number in range(1, len(bad) + 1))


def test_another_item_of_the_same_name_is_refused_and_nothing_of_the_file_kept(tmp_path: Path) -> None:
    store = store_of(tmp_path, ranking("one"))
    assert store.add_items([ranking("one")]) == 0
    with pytest.raises(DataContractError, match="other-item"):
        store.add_items([ranking("two"), ranking("one", 5)])
    assert list(store.items()) == ["one"]


def test_items_survive_the_store_as_they_came(tmp_path: Path) -> None:
    item = Item("d", [{"role": "user", "content": "ä\x00\u2028"}], ("x", "y\n"), ("m", "n"), "s", True)
    assert store_of(tmp_path, item).items() == {"d": item}


def test_changed_guidelines_need_a_new_version_and_the_current_ones_come_last(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    with pytest.raises(ConfigError, match="other-guidelines"):
        store.add_guidelines(Guidelines(version="1", text="another text"))
    store.add_guidelines(Guidelines(version="2", text="new"))
    assert [text.version for text in store.guidelines()] == ["1", "2"]


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes, longer than the header of a database " * 5)
    before = path.read_bytes()
    with pytest.raises(DataContractError, match="bad-store"):
        Store(path, create=True)
    assert path.read_bytes() == before
    with pytest.raises(ConfigError, match="no-file"):
        Store(tmp_path / "missing.db")


def test_a_full_disk_refuses_an_answer_and_the_next_one_is_kept_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, ranking("one"), ranking("two"))
    pages = store._one("PRAGMA page_count")[0]
    store._one(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says on a full disk
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.save(Answer("n-1", "north", "one", "1", {"shown": ["x" * 100_000]}))
    assert store.answers() == []
    store._one("PRAGMA max_page_count = 1000000")
    store.save(Answer("n-1", "north", "two", "1", {"shown": []}))
    assert [answer.item for answer in Store(store.path).answers()] == ["two"]

"""Items in, and a store that refuses what it cannot keep."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from feedback_cases import ranking, store_of
from postgres_server import PostgresServer

from alignment.annotators import Guidelines
from alignment.feedback.answers import Answer
from alignment.feedback.items import Item, read_items
from alignment.feedback.store import Store
from curation.errors import ConfigError, DataContractError, StageError


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


def test_another_item_of_the_same_name_is_refused_and_nothing_of_the_file_kept(place: str) -> None:
    store = store_of(place, ranking("one"))
    assert store.add_items([ranking("one")]) == 0
    with pytest.raises(DataContractError, match="other-item"):
        store.add_items([ranking("two"), ranking("one", 5)])
    assert list(store.items()) == ["one"]


def test_items_survive_the_store_as_they_came(place: str) -> None:
    item = Item("d", [{"role": "user", "content": "ä\x00\u2028"}], ("x", "y\n"), ("m", "n"), "s", True)
    assert store_of(place, item).items() == {"d": item}


def test_changed_guidelines_need_a_new_version_and_the_current_ones_come_last(place: str) -> None:
    store = store_of(place)
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
    store = store_of(str(tmp_path / "feedback.db"), ranking("one"), ranking("two"))
    pages = store._one("PRAGMA page_count")[0]
    store._one(f"PRAGMA max_page_count = {pages}")  # SQLite then says what it says on a full disk
    with pytest.raises(StageError, match=r"(?s)store-failed.*full"):
        store.save(Answer("n-1", "north", "one", "1", {"shown": ["x" * 100_000]}))
    assert store.answers() == []
    store._one("PRAGMA max_page_count = 1000000")
    store.save(Answer("n-1", "north", "two", "1", {"shown": []}))
    assert [answer.item for answer in Store(store.where).answers()] == ["two"]


def test_a_store_of_the_version_before_goes_on_with_its_answers_and_its_order(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.executescript(
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);"
        "CREATE TABLE guidelines (version TEXT PRIMARY KEY, text TEXT NOT NULL, added REAL NOT NULL);"
        "CREATE TABLE items (id TEXT PRIMARY KEY, content TEXT NOT NULL, overlap INTEGER NOT NULL);"
        "CREATE TABLE invitations (token_sha256 TEXT PRIMARY KEY, role TEXT NOT NULL, pool TEXT NOT NULL,"
        " expires REAL NOT NULL, annotator TEXT);"
        "CREATE TABLE annotators (id TEXT PRIMARY KEY, pool TEXT NOT NULL, joined REAL NOT NULL);"
        "CREATE TABLE backgrounds (annotator TEXT PRIMARY KEY, content TEXT NOT NULL);"
        "CREATE TABLE answers (number INTEGER PRIMARY KEY AUTOINCREMENT, annotator TEXT NOT NULL, pool TEXT NOT NULL,"
        " item TEXT NOT NULL, guidelines TEXT NOT NULL, body TEXT NOT NULL, saved REAL NOT NULL, undone REAL);"
        "INSERT INTO meta VALUES ('secret', 'key'); INSERT INTO annotators VALUES ('n-1', 'north', 1.0);"
        "INSERT INTO invitations VALUES ('abc', 'annotator', 'north', 9e9, 'n-1');"
        "PRAGMA user_version = 1;"
    )
    db.close()
    store = Store(path)
    store.add_items([ranking("z"), ranking("a")])
    store.save(Answer("n-1", "north", "z", "1", {"shown": []}))
    assert (list(store.items()), store.secret) == (["z", "a"], "key")
    assert [(one.annotator, one.answers, one.state) for one in store.invitations()] == [("n-1", 1, "joined")]
    assert store.revoke("n-1") == 1
    assert Store(path).invitation("abc") is None


def test_a_store_of_a_later_version_is_left_alone(place: str) -> None:
    store = store_of(place)
    with store.db.transaction():
        store.db.set_version(99)
    with pytest.raises(DataContractError, match="version 99"):
        Store(place, create=True)


def test_text_that_no_database_keeps_alike_is_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        store_of(place).add_guidelines(Guidelines(version="2", text="a\0b"))
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"id": "a\0b", "prompt": "p", "responses": ["x", "y"]}))
    with pytest.raises(DataContractError, match="no-rows"):
        read_items(items)


def test_two_processes_write_one_store_in_turn(place: str) -> None:
    first = store_of(place, *(ranking(f"i{n}") for n in range(20)))
    second = Store(place)

    def write(store: Store) -> None:
        for n in range(20):
            store.save(Answer("n-1", "north", f"i{n}", "1", {"shown": []}))

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, (first, second)))
    assert len(first.answers()) == 20
    assert first.db.all("SELECT COUNT(*) FROM answers") == [(40,)]


def test_a_postgresql_store_is_found_again_and_a_missing_one_is_named_without_its_password(
    postgres: PostgresServer,
) -> None:
    url = postgres.new_database()
    with pytest.raises(ConfigError, match="no-file") as absent:
        Store(url)
    store_of(url, ranking("one")).close()
    assert list(Store(url).items()) == ["one"]
    wrong = url.replace("headwater:", "headwater:wrong%20")
    with pytest.raises(ConfigError, match="no-database") as refused:
        Store(wrong, create=True)
    with pytest.raises(ConfigError, match="cannot be read") as unreadable:
        Store(url.replace("%20", "%zz"), create=True)
    for error in (absent, refused, unreadable):
        assert "secret" not in str(error.value)
    assert f"postgresql://headwater@127.0.0.1:{postgres.port}/" in str(refused.value)


def test_tables_of_somebody_else_in_a_database_are_left_alone(postgres: PostgresServer) -> None:
    import psycopg

    url = postgres.new_database()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE TABLE items (mine TEXT)")  # in another schema: no harm
        assert list(store_of(url, ranking("one")).items()) == ["one"]
        db.execute("DROP SCHEMA headwater_feedback CASCADE; CREATE SCHEMA headwater_feedback")
        db.execute("CREATE TABLE headwater_feedback.items (mine TEXT)")
        with pytest.raises(DataContractError, match="bad-store"):
            Store(url, create=True)
        assert db.execute("SELECT COUNT(*) FROM headwater_feedback.items").fetchall() == [(0,)]


def test_a_lost_connection_refuses_one_answer_and_is_made_anew(postgres: PostgresServer) -> None:
    import psycopg

    url = postgres.new_database()
    store = store_of(url, ranking("one"), ranking("two"))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid()")
    with pytest.raises(StageError, match="store-failed"):
        store.save(Answer("n-1", "north", "one", "1", {"shown": []}))
    store.save(Answer("n-1", "north", "two", "1", {"shown": []}))
    assert [answer.item for answer in store.answers()] == ["two"]

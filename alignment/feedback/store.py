"""The embedded store: one SQLite file with items, guidelines, invitations, annotators and answers.

An answer is acknowledged after its transaction is on disk (write-ahead log, `synchronous=FULL`), so a killed process or
machine loses none. Nothing is deleted: what an annotator takes back or answers anew keeps its row, marked `undone`.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alignment.annotators import Guidelines
from alignment.feedback.answers import Answer
from alignment.feedback.items import Item, items_for
from alignment.preference_rows import plain_prompt
from curation.errors import ConfigError, DataContractError, Problem
from curation.fingerprint import canonical_json
from curation.seeding import derive_seed, unit_hash

VERSION = 1  # PRAGMA user_version of the schema below
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE guidelines (version TEXT PRIMARY KEY, text TEXT NOT NULL, added REAL NOT NULL);
CREATE TABLE items (id TEXT PRIMARY KEY, content TEXT NOT NULL, overlap INTEGER NOT NULL);
CREATE TABLE invitations (
  token_sha256 TEXT PRIMARY KEY, role TEXT NOT NULL, pool TEXT NOT NULL, expires REAL NOT NULL, annotator TEXT);
CREATE TABLE annotators (id TEXT PRIMARY KEY, pool TEXT NOT NULL, joined REAL NOT NULL);
CREATE TABLE backgrounds (annotator TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE answers (
  number INTEGER PRIMARY KEY AUTOINCREMENT, annotator TEXT NOT NULL, pool TEXT NOT NULL, item TEXT NOT NULL,
  guidelines TEXT NOT NULL, body TEXT NOT NULL, saved REAL NOT NULL, undone REAL);
CREATE UNIQUE INDEX one_answer ON answers (annotator, item) WHERE undone IS NULL;
CREATE INDEX answers_of_pool ON answers (pool, item) WHERE undone IS NULL;
"""


class Store:
    """The file and what can be asked of it. Threads share one connection, one at a time."""

    def __init__(self, path: Path, create: bool = False) -> None:
        """Open a store.

        Raises:
            ConfigError: there is none and `create` is false.
            DataContractError: the file is something else, or of another version of the schema.
        """
        if not create and not path.is_file():
            raise ConfigError(Problem("no-file", "there is no feedback store", str(path)))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # it holds the key that signs links and sessions
        self.path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            with self._transaction():
                self._prepare()
        except sqlite3.DatabaseError as error:
            raise DataContractError(Problem("bad-store", f"not a feedback store: {error}", str(path))) from None
        self.secret = str(self._one("SELECT value FROM meta WHERE name = 'secret'")[0])

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if version == 0 and tables == 0:
            for statement in SCHEMA.split(";")[:-1]:
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('secret', ?)", (secrets.token_urlsafe(32),))
            self._db.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            problem = Problem("bad-store", f"version {version} of a store", str(self.path), f"version {VERSION}")
            raise DataContractError(problem)

    def close(self) -> None:
        self._db.close()

    # What is asked

    def add_items(self, items: Iterable[Item], overlap: float = 0.0) -> int:
        """Add the items that are new; a share `overlap` of those that do not say goes to everybody.

        Returns:
            How many were new.

        Raises:
            DataContractError: the store holds another item of the same id.
        """
        seed, added = derive_seed(0, "feedback", "overlap"), 0
        with self._transaction():
            for item in items:
                shared = item.overlap if item.overlap is not None else unit_hash(item.id, seed) < overlap
                fields = {**vars(item), "prompt": plain_prompt(item.prompt)}
                content = canonical_json({name: fields[name] for name in fields if name not in ("id", "overlap")})
                known = self._db.execute("SELECT content FROM items WHERE id = ?", (item.id,)).fetchone()
                if known is None:
                    self._db.execute("INSERT INTO items VALUES (?, ?, ?)", (item.id, content, shared))
                    added += 1
                elif known[0] != content:
                    problem = Problem("other-item", f"the store has another item `{item.id}`", str(self.path))
                    raise DataContractError(problem)
        return added

    def items(self) -> dict[str, Item]:
        """All items by id, `overlap` decided."""
        found = {}
        for name, content, shared in self._all("SELECT id, content, overlap FROM items ORDER BY rowid"):
            raw = json.loads(content)
            responses, models = tuple(raw["responses"]), tuple(raw["models"])
            found[name] = Item(name, raw["prompt"], responses, models, raw["source"], bool(shared))
        return found

    def add_guidelines(self, guidelines: Guidelines) -> None:
        """Make these the guidelines that pages show from now on.

        Raises:
            ConfigError: another text has this version.
        """
        with self._transaction():
            known = self._db.execute("SELECT text FROM guidelines WHERE version = ?", (guidelines.version,)).fetchone()
            if known is not None and known[0] != guidelines.text:
                message = f"version `{guidelines.version}` of the guidelines has another text"
                hint = "a changed text needs a new version: --guidelines-version"
                raise ConfigError(Problem("other-guidelines", message, str(self.path), hint=hint))
            self._db.execute(
                "INSERT INTO guidelines VALUES (?, ?, ?) ON CONFLICT (version) DO UPDATE SET added = excluded.added",
                (guidelines.version, guidelines.text, time.time()),
            )

    def guidelines(self) -> list[Guidelines]:
        """All versions, the current one last."""
        rows = self._all("SELECT version, text FROM guidelines ORDER BY added, rowid")
        return [Guidelines(version=version, text=text) for version, text in rows]

    # Who answers

    def add_invitation(self, token_sha256: str, role: str, pool: str, expires: float) -> None:
        """Keep an invitation, as the hash of its token."""
        with self._transaction():
            self._db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, NULL)", (token_sha256, role, pool, expires))

    def invitation(self, token_sha256: str) -> tuple[str, str] | None:
        """Role and pool of an invitation that has not expired."""
        row = self._one(
            "SELECT role, pool FROM invitations WHERE token_sha256 = ? AND expires > ?", (token_sha256, time.time())
        )
        return None if row is None else (row[0], row[1])

    def join(self, token_sha256: str) -> str:
        """The annotator of an invitation: a new one at its first use, the same one ever after."""
        with self._transaction():
            pool, who = self._db.execute(
                "SELECT pool, annotator FROM invitations WHERE token_sha256 = ?", (token_sha256,)
            ).fetchone()
            if who is None:
                who = f"{pool}-{secrets.token_hex(4)}"
                self._db.execute("INSERT INTO annotators VALUES (?, ?, ?)", (who, pool, time.time()))
                self._db.execute("UPDATE invitations SET annotator = ? WHERE token_sha256 = ?", (who, token_sha256))
        return str(who)

    def annotators(self) -> dict[str, str]:
        """Annotator → pool."""
        return dict(self._all("SELECT id, pool FROM annotators ORDER BY joined"))

    def set_background(self, annotator: str, background: dict[str, str]) -> None:
        """Keep what somebody says about themselves, apart from the answers; an empty one changes nothing."""
        if background:
            with self._transaction():
                self._db.execute(
                    "INSERT OR REPLACE INTO backgrounds VALUES (?, ?)", (annotator, canonical_json(background))
                )

    def backgrounds(self) -> list[dict[str, str]]:
        """What people said about themselves, sorted by content: not whose it is."""
        return [json.loads(row[0]) for row in self._all("SELECT content FROM backgrounds ORDER BY content")]

    # What they answer

    def waiting(self, annotator: str, pool: str, per_item: int) -> list[str]:
        """Ids of the items that an annotator has still to answer, in their own order: those for everybody, and those
        with fewer than `per_item` answers from the pool."""
        ids = self._all(
            "SELECT id FROM items WHERE NOT EXISTS (SELECT 1 FROM answers WHERE annotator = ? AND item = id AND"
            " undone IS NULL) AND (overlap OR id NOT IN (SELECT item FROM answers WHERE pool = ? AND undone IS NULL"
            " GROUP BY item HAVING COUNT(*) >= ?))",
            (annotator, pool, per_item),
        )
        return items_for(annotator, [row[0] for row in ids])

    def answered(self, annotator: str) -> int:
        """How many items an annotator has answered."""
        found = self._one("SELECT COUNT(*) FROM answers WHERE annotator = ? AND undone IS NULL", (annotator,))
        return int(found[0])

    def save(self, answer: Answer) -> None:
        """Keep an answer; on disk when this returns. An earlier one by the same annotator is marked undone."""
        now = time.time()
        with self._transaction():
            self._db.execute(
                "UPDATE answers SET undone = ? WHERE annotator = ? AND item = ? AND undone IS NULL",
                (now, answer.annotator, answer.item),
            )
            self._db.execute(
                "INSERT INTO answers (annotator, pool, item, guidelines, body, saved) VALUES (?, ?, ?, ?, ?, ?)",
                (answer.annotator, answer.pool, answer.item, answer.guidelines, canonical_json(answer.body), now),
            )

    def undo(self, annotator: str) -> bool:
        """Take an annotator's last answer back; its item waits again.

        Returns:
            False when there was none.
        """
        with self._transaction():
            done = self._db.execute(
                "UPDATE answers SET undone = ? WHERE number = (SELECT MAX(number) FROM answers WHERE annotator = ? AND"
                " undone IS NULL)",
                (time.time(), annotator),
            )
        return done.rowcount > 0

    def taken_back(self, annotator: str, item: str) -> dict[str, Any] | None:
        """The last answer that an annotator took back for an item: what the form starts from."""
        row = self._one(
            "SELECT body FROM answers WHERE annotator = ? AND item = ? AND undone IS NOT NULL"
            " ORDER BY number DESC LIMIT 1",
            (annotator, item),
        )
        return None if row is None else json.loads(row[0])

    def answers(self) -> list[Answer]:
        """All answers that stand, oldest first."""
        rows = self._all(
            "SELECT annotator, pool, item, guidelines, body, saved FROM answers WHERE undone IS NULL ORDER BY number"
        )
        return [Answer(who, pool, item, text, json.loads(body), at) for who, pool, item, text, body, at in rows]

    # SQLite

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _all(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    def _one(self, statement: str, values: tuple[object, ...] = ()) -> Any:
        with self._lock:
            return self._db.execute(statement, values).fetchone()

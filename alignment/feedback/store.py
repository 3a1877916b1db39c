"""The store: items, guidelines, invitations, annotators and answers, in an SQLite file or a PostgreSQL database.

An answer is acknowledged after its transaction is on disk, so a killed process or machine loses none. Nothing is
deleted: what an annotator takes back or answers anew keeps its row, marked `undone`; an invitation is marked `revoked`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.annotators import Guidelines
from alignment.feedback.answers import Answer
from alignment.feedback.databases import Database, open_database
from alignment.feedback.items import Item, items_for
from alignment.preference_rows import plain_prompt
from curation.errors import ConfigError, DataContractError, Problem
from curation.fingerprint import canonical_json
from curation.seeding import derive_seed, unit_hash

VERSION = 2  # of the schema below
SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE guidelines ({number}version TEXT UNIQUE NOT NULL, text TEXT NOT NULL, added DOUBLE PRECISION NOT NULL);
CREATE TABLE items ({number}id TEXT UNIQUE NOT NULL, content TEXT NOT NULL, overlap INTEGER NOT NULL);
CREATE TABLE invitations (
  token_sha256 TEXT PRIMARY KEY, role TEXT NOT NULL, pool TEXT NOT NULL, expires DOUBLE PRECISION NOT NULL,
  annotator TEXT, revoked DOUBLE PRECISION);
CREATE TABLE annotators ({number}id TEXT UNIQUE NOT NULL, pool TEXT NOT NULL, joined DOUBLE PRECISION NOT NULL);
CREATE TABLE backgrounds (annotator TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE answers ({number}
  annotator TEXT NOT NULL, pool TEXT NOT NULL, item TEXT NOT NULL, guidelines TEXT NOT NULL, body TEXT NOT NULL,
  saved DOUBLE PRECISION NOT NULL, undone DOUBLE PRECISION);
CREATE UNIQUE INDEX one_answer ON answers (annotator, item) WHERE undone IS NULL;
CREATE INDEX answers_of_pool ON answers (pool, item) WHERE undone IS NULL;
"""
UPGRADES = {1: "ALTER TABLE invitations ADD COLUMN revoked DOUBLE PRECISION"}  # version before → what makes the next
SHORT = 12  # characters of a token's hash that name an invitation to people


@dataclass(frozen=True)
class Invitation:
    """A link that was handed out, as an admin sees it: never the link itself."""

    id: str  # the first characters of the hash of its token
    role: str
    pool: str
    annotator: str  # "" before its first use
    answers: int
    state: str  # `open`, `joined`, `expired` before anybody used it, or `revoked`


class Store:
    """The tables and what can be asked of them."""

    def __init__(self, where: str | Path, create: bool = False) -> None:
        """Open a store: a file, or `postgresql://USER@HOST:PORT/DATABASE`.

        Raises:
            ConfigError: there is none and `create` is false.
            DataContractError: it is something else, or of another version of the schema.
            StageError: the database does not answer; so does every method.
        """
        self.db: Database = open_database(where, create)
        self.where = self.db.name
        with self.db.transaction():
            self._prepare(create)
        self.secret = str(self._one("SELECT value FROM meta WHERE name = 'secret'")[0])

    def _prepare(self, create: bool) -> None:
        version = self.db.version()
        if version == 0:
            if not create:
                raise ConfigError(Problem("no-file", "there is no feedback store", self.where))
            self.db.make_room()
            for statement in SCHEMA.format(number=f"number {self.db.number}, ").split(";")[:-1]:
                self.db.run(statement)
            self.db.run("INSERT INTO meta VALUES ('secret', ?)", (secrets.token_urlsafe(32),))
        elif version not in (VERSION, *UPGRADES):
            found = "other tables" if version == -1 else f"version {version} of a store"
            raise DataContractError(Problem("bad-store", found, self.where, f"version {VERSION} of a feedback store"))
        for before in range(version or VERSION, VERSION):
            self.db.run(UPGRADES[before])
        if version != VERSION:
            self.db.set_version(VERSION)

    def close(self) -> None:
        self.db.close()

    # What is asked

    def add_items(self, items: Iterable[Item], overlap: float = 0.0) -> int:
        """Add the items that are new; a share `overlap` of those that do not say goes to everybody.

        Returns:
            How many were new.

        Raises:
            DataContractError: the store holds another item of the same id.
        """
        seed, added = derive_seed(0, "feedback", "overlap"), 0
        with self.db.transaction():
            for item in items:
                shared = item.overlap if item.overlap is not None else unit_hash(item.id, seed) < overlap
                fields = {**vars(item), "prompt": plain_prompt(item.prompt)}
                content = canonical_json({name: fields[name] for name in fields if name not in ("id", "overlap")})
                known = self._one("SELECT content FROM items WHERE id = ?", (item.id,))
                if known is None:
                    row = (item.id, content, int(shared))
                    self.db.run("INSERT INTO items (id, content, overlap) VALUES (?, ?, ?)", row)
                    added += 1
                elif known[0] != content:
                    problem = Problem("other-item", f"the store has another item `{item.id}`", self.where)
                    raise DataContractError(problem)
        return added

    def items(self) -> dict[str, Item]:
        """All items by id, `overlap` decided."""
        found = {}
        for name, content, shared in self._all(f"SELECT id, content, overlap FROM items ORDER BY {self.db.order}"):
            raw = json.loads(content)
            responses, models = tuple(raw["responses"]), tuple(raw["models"])
            found[name] = Item(name, raw["prompt"], responses, models, raw["source"], bool(shared))
        return found

    def add_guidelines(self, guidelines: Guidelines) -> None:
        """Make these the guidelines that pages show from now on.

        Raises:
            ConfigError: another text has this version, or it holds a NUL, which no database keeps alike.
        """
        if "\0" in guidelines.text + guidelines.version:
            raise ConfigError(Problem("bad-value", "the guidelines hold a NUL character", self.where))
        with self.db.transaction():
            known = self._one("SELECT text FROM guidelines WHERE version = ?", (guidelines.version,))
            if known is not None and known[0] != guidelines.text:
                message = f"version `{guidelines.version}` of the guidelines has another text"
                hint = "a changed text needs a new version: --guidelines-version"
                raise ConfigError(Problem("other-guidelines", message, self.where, hint=hint))
            self.db.run(
                "INSERT INTO guidelines (version, text, added) VALUES (?, ?, ?)"
                " ON CONFLICT (version) DO UPDATE SET added = excluded.added",
                (guidelines.version, guidelines.text, time.time()),
            )

    def guidelines(self) -> list[Guidelines]:
        """All versions, the current one last."""
        rows = self._all(f"SELECT version, text FROM guidelines ORDER BY added, {self.db.order}")
        return [Guidelines(version=version, text=text) for version, text in rows]

    # Who answers

    def add_invitation(self, token_sha256: str, role: str, pool: str, expires: float) -> None:
        """Keep an invitation, as the hash of its token."""
        with self.db.transaction():
            self.db.run(
                "INSERT INTO invitations (token_sha256, role, pool, expires) VALUES (?, ?, ?, ?)",
                (token_sha256, role, pool, expires),
            )

    def invitation(self, token_sha256: str) -> tuple[str, str] | None:
        """Role and pool of an invitation that has neither expired nor been revoked."""
        row = self._one(
            "SELECT role, pool FROM invitations WHERE token_sha256 = ? AND expires > ? AND revoked IS NULL",
            (token_sha256, time.time()),
        )
        return None if row is None else (row[0], row[1])

    def lets_in(self, token_sha256: str, role: str) -> bool:
        """Whether a session that began with an invitation of this role still stands: nobody has revoked it.

        An invitation's day of expiry ends its use as a link, not the session: that has an end of its own.
        """
        found = self._one(
            "SELECT 1 FROM invitations WHERE token_sha256 = ? AND role = ? AND revoked IS NULL", (token_sha256, role)
        )
        return found is not None

    def revoke(self, name: str) -> int:
        """Withdraw the invitation of an annotator, or the one of this `Invitation.id`: its link and its sessions get in
        nowhere from now on. Answers that were given stand.

        Returns:
            How many invitations this withdrew: 0 when none that stands is called so.
        """
        with self.db.transaction():
            return self.db.run(
                f"UPDATE invitations SET revoked = ? WHERE revoked IS NULL AND"
                f" (annotator = ? OR substr(token_sha256, 1, {SHORT}) = ?)",
                (time.time(), name, name),
            )

    def invitations(self) -> list[Invitation]:
        """All that were handed out: admins first, then by pool."""
        rows = self._all(
            f"SELECT substr(token_sha256, 1, {SHORT}), role, pool, annotator, expires, revoked, (SELECT COUNT(*) FROM"
            " answers WHERE answers.annotator = invitations.annotator AND undone IS NULL) FROM invitations"
            " ORDER BY role, pool, annotator, token_sha256"
        )
        return [
            Invitation(name, role, pool, who or "", count, _state(who, expires, revoked))
            for name, role, pool, who, expires, revoked, count in rows
        ]

    def join(self, token_sha256: str) -> str:
        """The annotator of an invitation: a new one at its first use, the same one ever after."""
        with self.db.transaction():
            pool, who = self._one("SELECT pool, annotator FROM invitations WHERE token_sha256 = ?", (token_sha256,))
            if who is None:
                who = f"{pool}-{secrets.token_hex(4)}"
                self.db.run("INSERT INTO annotators (id, pool, joined) VALUES (?, ?, ?)", (who, pool, time.time()))
                self.db.run("UPDATE invitations SET annotator = ? WHERE token_sha256 = ?", (who, token_sha256))
        return str(who)

    def annotators(self) -> dict[str, str]:
        """Annotator → pool."""
        return dict(self._all(f"SELECT id, pool FROM annotators ORDER BY {self.db.order}"))

    def set_background(self, annotator: str, background: dict[str, str]) -> None:
        """Keep what somebody says about themselves, apart from the answers; an empty one changes nothing."""
        if background:
            with self.db.transaction():
                self.db.run(
                    "INSERT INTO backgrounds VALUES (?, ?)"
                    " ON CONFLICT (annotator) DO UPDATE SET content = excluded.content",
                    (annotator, canonical_json(background)),
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
            " undone IS NULL) AND (overlap = 1 OR id NOT IN (SELECT item FROM answers WHERE pool = ? AND undone IS NULL"
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
        with self.db.transaction():
            self.db.run(
                "UPDATE answers SET undone = ? WHERE annotator = ? AND item = ? AND undone IS NULL",
                (now, answer.annotator, answer.item),
            )
            self.db.run(
                "INSERT INTO answers (annotator, pool, item, guidelines, body, saved) VALUES (?, ?, ?, ?, ?, ?)",
                (answer.annotator, answer.pool, answer.item, answer.guidelines, canonical_json(answer.body), now),
            )

    def undo(self, annotator: str) -> bool:
        """Take an annotator's last answer back; its item waits again.

        Returns:
            False when there was none.
        """
        with self.db.transaction():
            done = self.db.run(
                "UPDATE answers SET undone = ? WHERE number = (SELECT MAX(number) FROM answers WHERE annotator = ? AND"
                " undone IS NULL)",
                (time.time(), annotator),
            )
        return done > 0

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

    def _all(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        return self.db.all(statement, values)

    def _one(self, statement: str, values: tuple[object, ...] = ()) -> Any:
        return next(iter(self.db.all(statement, values)), None)


def _state(annotator: str | None, expires: float, revoked: float | None) -> str:
    if revoked is not None:
        return "revoked"
    if annotator is not None:
        return "joined"
    return "open" if expires > time.time() else "expired"

"""Where a store's tables stand: an SQLite file, or a PostgreSQL database. Statements are SQL that both read, with `?`.

Both keep a committed transaction through the death of our process and of their own machine: SQLite with a write-ahead
log and `synchronous=FULL`, PostgreSQL with `synchronous_commit=on` (as long as the server itself runs with `fsync`).
Writers take turns on both, so that what a transaction has read is still so when it commits.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from curation.errors import ConfigError, DataContractError, Problem, StageError

if TYPE_CHECKING:
    import psycopg

PREFIXES = ("postgresql://", "postgres://")
POSTGRES_SCHEMA = "headwater_feedback"  # of our own: the database may hold other things
WRITER_LOCK = 0x6865616477  # "headw": the advisory lock that makes writers take turns
Values = Sequence[object]


class Database(Protocol):
    """What a store needs of its tables. Threads share one connection, one at a time."""

    name: str  # for messages; never with a password
    number: str  # how a schema declares a number that grows with every row
    order: str  # the column that has rows in the order in which they came

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, on disk when it ends."""

    def run(self, statement: str, values: Values = ()) -> int:
        """Change rows, inside a transaction; how many."""

    def all(self, statement: str, values: Values = ()) -> list[Any]:
        """All rows of a query."""

    def version(self) -> int:
        """Version of the schema; 0 where there is nothing yet, -1 where there is something else."""

    def make_room(self) -> None:
        """Whatever comes before the tables, inside a transaction."""

    def set_version(self, version: int) -> None:
        """Keep the version, inside a transaction."""

    def close(self) -> None:
        """Let go of the connection."""


def open_database(where: str | Path, create: bool) -> Database:
    """The database behind a path or a URL `postgresql://…`."""
    if str(where).startswith(PREFIXES):
        return PostgresDatabase(str(where))
    return SqliteDatabase(Path(where), create)


class SqliteDatabase:
    """One file, readable by its owner alone: it holds the key that signs links and sessions."""

    number, order = "INTEGER PRIMARY KEY AUTOINCREMENT", "rowid"

    def __init__(self, path: Path, create: bool) -> None:
        """Raises ConfigError: there is no file and `create` is false; DataContractError: it is something else."""
        if not create and not path.is_file():
            raise ConfigError(Problem("no-file", "there is no feedback store", str(path)))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        self.name = str(path)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
        except sqlite3.DatabaseError as error:
            raise DataContractError(Problem("bad-store", f"not a feedback store: {error}", self.name)) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def run(self, statement: str, values: Values = ()) -> int:
        with self._lock:
            return self._execute(statement, values).rowcount

    def all(self, statement: str, values: Values = ()) -> list[Any]:
        with self._lock:
            return self._execute(statement, values).fetchall()

    def _execute(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.OperationalError as error:
            raise StageError(Problem("store-failed", f"the store did not answer: {error}", self.name)) from None

    def version(self) -> int:
        version = int(self.all("PRAGMA user_version")[0][0])
        tables = self.all("SELECT COUNT(*) FROM sqlite_master")[0][0]
        return -1 if version == 0 and tables else version

    def make_room(self) -> None:
        """Nothing: the file is there."""

    def set_version(self, version: int) -> None:
        self.run(f"PRAGMA user_version = {version}")

    def close(self) -> None:
        self._db.close()


class PostgresDatabase:
    """Tables in the schema `headwater_feedback` of a database on a server. A lost connection is made anew."""

    number, order = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "number"

    def __init__(self, url: str) -> None:
        """Raises ConfigError: no driver, no such server or database, or a URL that cannot be read."""
        try:
            import psycopg
        except ImportError as error:
            hint = "pip install 'headwater[feedback]'"
            raise ConfigError(Problem("missing-extra", f"PostgreSQL needs psycopg: {error}", hint=hint)) from None
        self._psycopg, self._url = psycopg, url
        self.name = shown(url)
        self._lock = threading.RLock()
        try:
            self._db = self._connect()
        except psycopg.Error as error:
            message = f"cannot open the database: {_one_line(error)}"
            raise ConfigError(Problem("no-database", message, self.name)) from None

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        db = self._psycopg.connect(self._url, autocommit=True, connect_timeout=10)
        db.execute("SET synchronous_commit = on")  # a server may have it off: a commit would then not be on disk
        db.execute(f"SET search_path = {POSTGRES_SCHEMA}".encode())
        return db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock, self._named_errors():
            if self._db.closed:
                self._db = self._connect()
            with self._db.transaction():
                self._db.execute(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})".encode())
                yield

    def run(self, statement: str, values: Values = ()) -> int:
        with self._lock, self._named_errors():
            return self._db.execute(statement.replace("?", "%s").encode(), values).rowcount

    def all(self, statement: str, values: Values = ()) -> list[Any]:
        with self._lock, self._named_errors():
            if self._db.closed:
                self._db = self._connect()
            return self._db.execute(statement.replace("?", "%s").encode(), values).fetchall()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except self._psycopg.OperationalError as error:
            message = f"the store did not answer: {_one_line(error)}"
            raise StageError(Problem("store-failed", message, self.name)) from None

    def version(self) -> int:
        if not self.all("SELECT 1 FROM pg_namespace WHERE nspname = ?", (POSTGRES_SCHEMA,)):
            return 0
        if self.all("SELECT to_regclass('meta')")[0][0] is None:
            tables = self.all("SELECT 1 FROM pg_tables WHERE schemaname = ?", (POSTGRES_SCHEMA,))
            return -1 if tables else 0
        found = self.all("SELECT value FROM meta WHERE name = 'version'")
        return int(found[0][0]) if found else -1

    def make_room(self) -> None:
        self.run(f"CREATE SCHEMA IF NOT EXISTS {POSTGRES_SCHEMA}")

    def set_version(self, version: int) -> None:
        self.run(
            "INSERT INTO meta VALUES ('version', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (str(version),),
        )

    def close(self) -> None:
        self._db.close()


def shown(where: str | Path) -> str:
    """A path, or a URL without its password, for messages.

    Raises:
        ConfigError: the URL cannot be read.
    """
    if not str(where).startswith(PREFIXES):
        return str(where)
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        said = conninfo_to_dict(str(where))
    except ProgrammingError:  # its text repeats the URL
        expected = "postgresql://USER@HOST:PORT/DATABASE"
        raise ConfigError(Problem("bad-value", "the URL of the store cannot be read", expected=expected)) from None
    user = f"{said['user']}@" if said.get("user") else ""
    port = f":{said['port']}" if said.get("port") else ""
    return f"postgresql://{user}{said.get('host') or ''}{port}/{said.get('dbname') or ''}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

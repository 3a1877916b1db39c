"""A PostgreSQL server of a test's own: on the loopback address, in a temporary folder, of the system's package."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PASSWORD = "not so secret, yet in no log"


@dataclass
class PostgresServer:
    """A server that runs, and new databases on it."""

    port: int
    folder: Path
    made: list[str] = field(default_factory=list)

    def url(self, database: str) -> str:
        return f"postgresql://headwater:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a database with nothing in it."""
        import psycopg

        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}".encode())
        self.made.append(name)
        return self.url(name)


def missing() -> str:
    """Why no server can be started here; "" if it can."""
    if not binaries():
        return "no PostgreSQL server is installed (Debian: apt-get install postgresql)"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg is not installed (the extra `feedback`)"
    if os.geteuid() == 0 and not _owner():
        return "PostgreSQL refuses to run as root, and there is no user `postgres`"
    return ""


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`, newest version first."""
    on_path = shutil.which("postgres")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server and stop it again."""
    folder = Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
    owner = _owner() if os.geteuid() == 0 else None
    as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if owner:
        for path in (folder, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    bin_, data = binaries(), folder / "data"
    assert bin_ is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = [
        "-D",
        data,
        "-U",
        "headwater",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "--encoding=UTF8",
        "--locale=C",
    ]
    options = ["-D", data, "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"]
    try:
        subprocess.run([bin_ / "initdb", *made], check=True, capture_output=True, cwd=folder, **as_owner)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([bin_ / "postgres", *options], stderr=log, cwd=folder, **as_owner)
        try:
            server = PostgresServer(port, folder)
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: PostgresServer, process: subprocess.Popen[bytes]) -> None:
    import psycopg

    last, until = "", time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            last = str(error)
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the server did not start: {last}\n{(server.folder / 'log').read_text()}")


def _owner() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None

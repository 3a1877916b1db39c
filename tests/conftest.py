"""What every test gets: no network, a pinned hypothesis profile, and the place of the optional data.

Sockets to the local machine stay open: Beam's multi-process runner talks to its workers over loopback gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_socket
from hypothesis import HealthCheck, settings
from postgres_server import PostgresServer, missing, postgres_server

REPO = Path(__file__).resolve().parent.parent
DATA = REPO.parent / "shared" / "data"

# derandomize: the same examples on every machine, so a red build is red for everybody.
# No deadline: the first call of a compiled kernel includes its compilation.
settings.register_profile(
    "headwater",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("headwater")


def pytest_runtest_setup() -> None:
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public corpora used by the larger tests; skips where it is not mounted."""
    if not DATA.is_dir():
        pytest.skip(f"the data folder {DATA.name} is not beside this checkout")
    return DATA


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; skips with the reason where none can be started."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with postgres_server() as server:
        yield server

"""Every test that takes `place` runs once with an SQLite file and once with a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a new store may stand."""
    if request.param == "sqlite":
        yield str(tmp_path / "feedback.db")
    else:
        yield request.getfixturevalue("postgres").new_database()

"""The session on the front page is what the commands print today."""

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.integration
def test_the_readme_shows_what_its_commands_print() -> None:
    done = subprocess.run(
        [sys.executable, "docs/refresh_readme.py", "--check"], cwd=REPO, capture_output=True, text=True, check=False
    )

    assert done.stdout == "README.md is up to date\n", f"run `make readme`\n{done.stdout}\n{done.stderr}"

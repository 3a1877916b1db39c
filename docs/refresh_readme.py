"""Put real output into README.md: `python docs/refresh_readme.py [--check]`.

Every ```console block that follows the marker line is run, command by command, and its output is put below. With
`--check` nothing is written; the exit status is 1 where the page differs from what the commands print today.

The fingerprint in a path changes with every change of the code, so it is shown as <fingerprint>.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
README = REPO / "README.md"
MARKER = "<!-- real output, written by `make readme` -->"
BLOCK = re.compile(re.escape(MARKER) + r"\n```console\n(.*?)```", re.S)
FINGERPRINT = re.compile(r"\b[0-9a-f]{16}\b")
SECONDS = re.compile(r"\b\d+(\.\d+)? ?s\b")


def shown(command: str) -> str:
    """What `command` prints on stdout in the repository root, as the page shows it.

    Raises:
        subprocess.CalledProcessError: the command failed; its stderr goes to the terminal.
    """
    venv = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{venv}:{os.environ['PATH']}", "MAKEFLAGS": "-s", "COLUMNS": "110"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=REPO, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    text = FINGERPRINT.sub("<fingerprint>", done.stdout.decode()).replace(f"{REPO}/", "")
    return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())


def refreshed(page: str) -> str:
    """`page` with the output of every marked block as it is today."""

    def run(match: re.Match[str]) -> str:
        commands = [line for line in match[1].splitlines() if line.startswith("$ ")]
        parts = [f"{command}\n{shown(command[2:])}" for command in commands]
        return f"{MARKER}\n```console\n{''.join(parts)}```"

    return BLOCK.sub(run, page)


def main(check: bool) -> int:
    """0 when the page is as it should be, or was written; 1 when `check` found a difference."""
    before = README.read_text(encoding="utf-8")
    after = refreshed(before)
    if not check:
        README.write_text(after, encoding="utf-8")
        return 0
    # How long it took differs from run to run; everything else must not.
    old, new = (SECONDS.sub("<seconds>", page).splitlines() for page in (before, after))
    difference = list(difflib.unified_diff(old, new, "README.md", "today", lineterm=""))
    print("\n".join(difference) or "README.md is up to date")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))

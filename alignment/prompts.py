"""Prompts to be answered: the `prompt` of any row of preference, demonstration or judged data, each once."""

from __future__ import annotations

from pathlib import Path

from alignment.json_rows import read_rows
from alignment.preference_rows import Prompt
from curation.errors import DataContractError, Problem


def read_prompts(*paths: Path | str) -> list[Prompt]:
    """Distinct prompts, in the order in which they first occur.

    Raises:
        DataContractError: a line is not JSON, has no `prompt`, or a prompt is neither text nor a list of messages.
    """
    found: dict[str, Prompt] = {}
    for path in map(Path, paths):
        for number, row in enumerate(read_rows(path, ("prompt",)), 1):
            prompt = row["prompt"]
            if not isinstance(prompt, str | list) or not prompt:
                raise DataContractError(
                    Problem("bad-prompt", f"{prompt!r}"[:80], f"{path}: row {number}", "text or messages")
                )
            found.setdefault(repr(prompt), prompt)
    return list(found.values())

"""What a text shows where a bias applies, or is applied: patterns, or the syntax tree of code in it. No judge."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

from curation.settings import Settings


class Predicate(Settings):
    """A text holds when it has all patterns of `has`, none of `lacks`, and a Python function with the `parameter`.

    Patterns ignore case; `(?-i:…)` heeds it.
    """

    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    parameter: str | None = None

    def holds(self, text: str) -> bool:
        """Whether the text shows it."""
        if not all(_compiled(pattern).search(text) for pattern in self.has):
            return False
        if any(_compiled(pattern).search(text) for pattern in self.lacks):
            return False
        return self.parameter is None or self.parameter in python_parameters(text)

    def mistakes(self) -> list[str]:
        """What makes the predicate unusable: a pattern that is none, or nothing to look for."""
        found = [] if self.has or self.parameter else ["it looks for nothing"]
        for pattern in (*self.has, *self.lacks):
            try:
                re.compile(pattern, re.IGNORECASE)
            except re.error as error:
                found.append(f"`{pattern}`: {error}")
        return found


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def python_parameters(text: str) -> set[str]:
    """Names of the parameters of all Python functions in a text, code or prose around it."""
    found: set[str] = set()
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.lstrip().startswith(("def ", "async def ")):
            found |= _parameters_from([line.lstrip(), *lines[at + 1 :]])
    return found


def _parameters_from(lines: list[str]) -> set[str]:
    """Of the longest beginning of `lines` that parses; prose after the code is left out."""
    for end in range(len(lines), 0, -1):
        try:
            tree = ast.parse("\n".join(lines[:end]))
        except (SyntaxError, ValueError):
            continue
        return {argument.arg for node in ast.walk(tree) if isinstance(node, ast.arg) for argument in (node,)}
    return set()

"""The errors of Headwater, named by their consequence.

    HeadwaterError
    ├── ConfigError          the user's file or flag is wrong; nothing was run      exit 2
    ├── DataContractError    data on disk is not what it claims to be               exit 3
    ├── StageError           a pass or stage could not finish                       exit 4
    │   └── LimitError       a guard rail (removal, quarantine, dead letters) hit   exit 4
    └── RecordError          one record is bad: becomes a dead letter, never stops a run

Every other exception is our own bug and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: a stable code, what, where, what was expected, what to try."""

    code: str
    message: str
    where: str | None = None
    expected: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.expected:
            lines.append(f"  = expected {self.expected}")
        if self.hint:
            lines.append(f"\nhint: {self.hint}")
        return "\n".join(lines)


class HeadwaterError(Exception):
    """Base of every error that a user can cause and mend. Carries all problems found, not the first."""

    exit_code = 1

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(self.default_code(), p) for p in problems)
        super().__init__("\n\n".join(str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[HeadwaterError], tuple[Problem, ...]]:
        # Exceptions cross process borders (worker → driver) by pickle; the default would re-wrap the text.
        return (type(self), self.problems)

    @classmethod
    def default_code(cls) -> str:
        return {"ConfigError": "config", "DataContractError": "data", "StageError": "stage"}.get(
            cls.__name__, cls.__name__.removesuffix("Error").lower()
        )


class ConfigError(HeadwaterError):
    """The job file, a ruleset or a flag is wrong. Nothing has been run or written."""

    exit_code = 2


class DataContractError(HeadwaterError):
    """Data on disk breaks its contract: a hash differs, a column is missing, a count does not add up."""

    exit_code = 3


class StageError(HeadwaterError):
    """A pass or stage could not finish: disk full, worker killed, input unreadable."""

    exit_code = 4


class LimitError(StageError):
    """A guard rail stopped the run: one filter removed, or the input lost, more than the job allows."""


class RecordError(HeadwaterError):
    """One record cannot be read. Caught at the source border and written as a dead letter."""

    exit_code = 3


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """`did you mean ...?` for the closest known name, or None when nothing is near."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None


def unknown_name(kind: str, name: str, known: Iterable[str], where: str | None = None) -> Problem:
    """The problem of a name that is not in a registry, listing what is."""
    names = sorted(known)
    return Problem(
        code="unknown-" + kind.partition(" of ")[0].replace(" ", "-"),  # codes are one word, whatever the kind says
        message=f"`{name}` is not a known {kind}",
        where=where,
        expected=f"one of: {', '.join(names)}" if names else "nothing: the registry is empty",
        hint=did_you_mean(name, names),
    )

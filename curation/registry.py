"""Names to implementations. A lookup that fails lists what exists and guesses what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from curation.errors import ConfigError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A closed table of named things of one kind (`filter`, `source`, `ruleset`, `classifier`)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Register `entry`; a second entry of the same name is a programming error."""
        if name in self._entries:
            raise ValueError(f"{self.kind} `{name}` is registered twice")
        self._entries[name] = entry
        return entry

    def get(self, name: str, where: str | None = None) -> T:
        """The entry called `name`.

        Raises:
            ConfigError: no such name; the message lists the known ones.
        """
        if name not in self._entries:
            raise ConfigError(unknown_name(self.kind, name, self._entries, where))
        return self._entries[name]

    def names(self) -> list[str]:
        return sorted(self._entries)

    def items(self) -> Iterator[tuple[str, T]]:
        return iter(sorted(self._entries.items()))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

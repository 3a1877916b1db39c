"""Documents from unwanted places: by domain, by words and by pieces of the address.

The order and kinds of rules follow RefinedWeb (Penedo et al. 2023, appendix G.1). Headwater ships no list of its own:
good ones are long, age fast and have licences of their own. Every list is a text file of the user's, one entry a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from pydantic import Field, field_validator

from curation.errors import ConfigError, Problem
from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import bounds_of
from curation.settings import Settings

WORDS = re.compile(r"[a-z0-9]+")


class UrlSettings(Settings):
    """Lists of the user: entries here, or files with one entry a line (`#` begins a comment)."""

    domains: tuple[str, ...] = ()  # a domain and everything below it
    domain_files: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()  # whole addresses
    url_files: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # one whole word of the address is enough
    word_files: tuple[str, ...] = ()
    soft_words: tuple[str, ...] = ()  # `max_soft_words` of them are tolerated
    soft_word_files: tuple[str, ...] = ()
    substrings: tuple[str, ...] = ()  # anywhere in the address without its punctuation
    substring_files: tuple[str, ...] = ()
    max_soft_words: int = Field(default=1, ge=0)  # RefinedWeb and datatrove drop at two

    @field_validator("domain_files", "url_files", "word_files", "soft_word_files", "substring_files")
    @classmethod
    def _exist(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        missing = [path for path in paths if not Path(path).is_file()]
        if missing:
            raise ValueError(f"no file there: {', '.join(missing)}")
        return paths


class Url(Filter[UrlSettings]):
    name = "url"
    summary = "documents whose address is on a list of domains, or has banned words in it"
    settings_type = UrlSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("listed_domain", "int64", "1 if the domain, or one above it, is listed"),
        Signal("listed_url", "int64", "1 if the address is listed"),
        Signal("words", "int64", "banned words in the address, each once"),
        Signal("soft_words", "int64", "soft banned words in the address, each once"),
        Signal("substrings", "int64", "banned pieces in the address, each once"),
    )
    measured_by = (
        "domains",
        "domain_files",
        "urls",
        "url_files",
        "words",
        "word_files",
        "soft_words",
        "soft_word_files",
        "substrings",
        "substring_files",
    )

    def measure(self, batch: DocumentBatch, settings: UrlSettings) -> dict[str, pa.Array]:
        s = settings
        domains = {entry.lower().strip(".") for entry in entries(s.domains, s.domain_files)}
        urls = {_plain(entry) for entry in entries(s.urls, s.url_files)}
        words = {entry.lower() for entry in entries(s.words, s.word_files)}
        soft_words = {entry.lower() for entry in entries(s.soft_words, s.soft_word_files)}
        pieces = sorted({"".join(WORDS.findall(e.lower())) for e in entries(s.substrings, s.substring_files)} - {""})
        columns: dict[str, list[int]] = {signal.name: [] for signal in self.signals}
        for url in batch.documents.column("url").to_pylist():
            found = _judge(url, domains, urls, words, soft_words, pieces) if url else (0, 0, 0, 0, 0)
            for name, value in zip(columns, found, strict=True):
                columns[name].append(value)
        return {name: pa.array(values, pa.int64()) for name, values in columns.items()}

    def bounds(self, settings: UrlSettings) -> tuple[Bound, ...]:
        return bounds_of(
            (
                ("listed_domain", "listed_domain", "above", 0, "the domain is listed"),
                ("listed_url", "listed_url", "above", 0, "the address is listed"),
                ("banned_word", "words", "above", 0, "a banned word stands in the address"),
                ("too_many_soft_words", "soft_words", "above", settings.max_soft_words, "several soft banned words"),
                ("banned_substring", "substrings", "above", 0, "a banned piece stands in the address"),
            )
        )


@lru_cache(maxsize=32)
def entries(given: tuple[str, ...], files: tuple[str, ...]) -> frozenset[str]:
    """The entries given and those of the files, without blank lines and comments.

    Raises:
        ConfigError: a file cannot be read; the message names it.
    """
    return frozenset(given) | frozenset(entry for path in files for entry in _lines(Path(path)))


def _lines(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Problem("unreadable-file", f"cannot read list `{path}`: {error}", str(path))) from None
    stripped = (line.partition("#")[0].strip() for line in lines)
    return (line for line in stripped if line)


def _plain(url: str) -> str:
    """An address without scheme, `www.`, fragment and last slash: two spellings of one place compare equal."""
    rest = url.strip().partition("#")[0].partition("://")
    return (rest[2] or rest[0]).removeprefix("www.").rstrip("/").lower()


def _host(url: str) -> str:
    """The host in lower case, without port; empty when the address is broken. A bare domain is its own host."""
    try:
        return (urlsplit(url if "://" in url else f"//{url}").hostname or "").strip(".")
    except ValueError:  # an unclosed bracket of an IPv6 host
        return ""


def _judge(
    url: str, domains: set[str], urls: set[str], words: set[str], soft_words: set[str], pieces: list[str]
) -> tuple[int, int, int, int, int]:
    parts = _host(url).split(".")
    listed = any(".".join(parts[i:]) in domains for i in range(len(parts)))
    tokens = WORDS.findall(unquote(url).lower())
    present = set(tokens)
    joined = "".join(tokens)
    return (
        int(listed),
        int(_plain(url) in urls),
        len(words & present),
        len(soft_words & present),
        sum(piece in joined for piece in pieces),
    )


FILTERS.add("url", Url())

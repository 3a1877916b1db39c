"""Lexicons on disk → typed entries. Read by the matcher; a user's own list has the same form (TSV, YAML or JSONL).

A TSV lexicon opens with `# name: value` lines (`lexicon`, `version`, `licence`) and a last comment line that names the
columns after `columns:` or simply lists them. Several values of one field are separated by `|`. The order of entries
counts: a form that two entries write alike belongs to the first, and a masked word (`f***`) is read as the first that
it fits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from curation.errors import ConfigError, Problem, did_you_mean
from curation.settings import Settings, parse

FOLDER = Path(__file__).resolve().parent
SHIPPED = {"english": FOLDER / "english.tsv", "ldnoobw": FOLDER / "ldnoobw.tsv", "cues": FOLDER / "cues.tsv"}

Category = Literal[
    "slur", "insult", "profanity", "sexual", "violence", "hate_ideology", "self_harm", "drugs", "blocklist", "cue"
]
LIST_FIELDS = ("variants", "guard_phrases", "guard_words", "source", "licence")
YES_NO = {"yes": True, "no": False}


class Entry(Settings):
    """One term: how it is written, what it is, whom it targets, and in which contexts it is another word."""

    term: str = Field(min_length=1)
    variants: tuple[str, ...] = ()
    category: Category = "blocklist"
    target: str | None = None
    severity: int = Field(default=1, ge=0, le=3, description="0 mild … 3 used almost only to demean")
    inflect: Literal["", "n", "v", "es"] = Field(default="", description="n: plural -s/-es/-ies; v: verb endings too")
    guard_phrases: tuple[str, ...] = Field(default=(), description="a phrase around the term that settles the homonym")
    guard_words: tuple[str, ...] = Field(default=(), description="words nearby that speak for the homonym")
    sense: str = Field(default="", description="the harmless other sense")
    in_group: bool = Field(default=False, description="also what the group it targets calls itself, without insult")
    lang: str = "en"
    label: str = Field(default="", description="cue lexicons only: the class of the cue")
    source: tuple[str, ...] = ()
    licence: tuple[str, ...] = Field(default=(), description="of this entry, where it is not the file's")

    @field_validator("term", "variants", "guard_phrases")
    @classmethod
    def _has_a_sign(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """A form of separators alone would match between any two words."""
        for form in (value,) if isinstance(value, str) else value:
            if not form.strip(" \t-_"):
                raise ValueError(f"`{form}` has no letter, digit or sign")
        return value

    def forms(self) -> tuple[str, ...]:
        """Every written form, sorted: term, variants and their inflections."""
        base = (self.term, *self.variants)
        return tuple(sorted({form for word in base for form in (word, *inflections(word, self.inflect))}))


@dataclass(frozen=True)
class Lexicon:
    """A named list of entries and the sha256 of the file it came from."""

    name: str
    version: str
    licence: str
    entries: tuple[Entry, ...]
    sha256: str
    path: Path

    def resource(self) -> dict[str, str]:
        """The manifest's row of this lexicon."""
        return {"name": f"lexicon/{self.name}", "version": self.version, "sha256": self.sha256, "kind": "lexicon"}

    def only(self, languages: Iterable[str]) -> Lexicon:
        """The same lexicon with the entries of `languages` alone."""
        wanted = frozenset(languages)
        kept = tuple(entry for entry in self.entries if entry.lang in wanted)
        return Lexicon(self.name, self.version, self.licence, kept, self.sha256, self.path)


def inflections(word: str, kind: str) -> tuple[str, ...]:
    """Regular English inflections of `word`: plural for `n`, plural, -ed, -ing, -er for `v`."""
    if not kind or not word[-1:].isalpha():
        return ()
    if word.endswith(("s", "x", "z", "ch", "sh")):
        plural = word + "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        plural = word[:-1] + "ies"
    else:
        plural = word + "s"
    if kind in {"n", "es"} or word.endswith("s"):
        return (plural,)
    stem = word.removesuffix("e")
    return (plural, stem + "ed", stem + "ing", stem + "er")


def load_lexicon(name_or_path: str | Path) -> Lexicon:
    """A shipped lexicon by name, or a user's file (.tsv, .yaml, .yml, .jsonl).

    Raises:
        ConfigError: no such file, a row that is not an entry (all of them in one message), or no entries at all.
    """
    path = SHIPPED.get(str(name_or_path)) or Path(name_or_path)
    where = path.name if path.parent == FOLDER else str(path)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            Problem(
                "no-lexicon",
                f"lexicon `{name_or_path}` cannot be read: {error.strerror}",
                expected=f"a file, or one of: {', '.join(sorted(SHIPPED))}",
            )
        ) from error
    readers = {".tsv": _read_tsv, ".jsonl": _read_jsonl, ".yaml": _read_yaml, ".yml": _read_yaml}
    reader = readers.get(path.suffix)
    if reader is None:
        raise ConfigError(
            Problem("bad-lexicon", f"`{path.suffix}` is no lexicon format", where, ".tsv, .yaml, .yml or .jsonl")
        )
    try:
        head, rows, problems = reader(raw.decode("utf-8-sig").replace("\r\n", "\n"), where)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(Problem("bad-lexicon", f"not readable as {path.suffix}: {error}", where)) from error
    entries: list[Entry] = []
    for line, row in rows:
        try:
            entries.append(parse(Entry, row, f"{where}:{line}", "a lexicon entry"))
        except ConfigError as error:
            problems.extend(error.problems)
    if not entries and not problems:
        problems.append(Problem("empty-lexicon", "the lexicon has no entries", where))
    if problems:
        raise ConfigError(*problems)
    return Lexicon(
        name=head.get("lexicon", path.stem),
        version=head.get("version", "0"),
        licence=head.get("licence", "not stated"),
        entries=tuple(entries),
        sha256=hashlib.sha256(raw).hexdigest(),
        path=path,
    )


Rows = list[tuple[int, Mapping[str, Any]]]  # line of the file, fields of the entry that starts there
Read = tuple[dict[str, str], Rows, list[Problem]]


def _read_tsv(text: str, where: str) -> Read:
    head: dict[str, str] = {}
    columns: list[str] = []
    rows: Rows = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.startswith("#"):
            body = line[1:].strip().removeprefix("columns:").strip()
            if "\t" in body or body in Entry.model_fields:
                columns = body.split("\t")
                problems += _unknown_columns(columns, f"{where}:{number}")
            else:
                key, _, value = body.partition(":")
                head[key.strip()] = value.strip()
            continue
        if not line.strip():
            continue
        if not columns:
            expected = "a line `# term<TAB>category<TAB>…` before the first entry"
            return head, [], [Problem("bad-lexicon", "no line names the columns", f"{where}:{number}", expected)]
        cells = line.split("\t")
        if len(cells) != len(columns):
            found = f"{len(cells)} cells in `{line[:40]}`"
            problems.append(
                Problem("bad-lexicon", found, f"{where}:{number}", f"{len(columns)}, a tab between each two")
            )
            continue
        known = {key: cell for key, cell in zip(columns, cells, strict=True) if key in Entry.model_fields}
        rows.append((number, _typed(known)))
    return head, rows, problems


def _unknown_columns(columns: list[str], where: str) -> list[Problem]:
    known = tuple(Entry.model_fields)
    return [
        Problem("unknown-key", f"`{name}` is no column of a lexicon", where, f"of: {', '.join(known)}",
                did_you_mean(name, known))
        for name in columns
        if name not in known
    ]  # fmt: skip


def _typed(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, cell in cells.items():
        if not cell:
            continue
        if key in LIST_FIELDS:
            row[key] = tuple(part for part in cell.split("|") if part)
        elif key == "severity" and cell.isdecimal():
            row[key] = int(cell)
        elif key == "in_group":
            row[key] = YES_NO.get(cell, cell)
        else:
            row[key] = cell
    return row


def _read_jsonl(text: str, where: str) -> Read:
    rows: Rows = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            problems.append(Problem("bad-lexicon", f"not JSON: {error}", f"{where}:{number}", "one object a line"))
            continue
        if isinstance(row, Mapping):
            rows.append((number, row))
        else:
            problems.append(_no_object(row, f"{where}:{number}"))
    return {}, rows, problems


def _read_yaml(text: str, where: str) -> Read:
    data = yaml.safe_load(text)
    if not isinstance(data, Mapping) or not isinstance(data.get("entries"), list):
        return {}, [], [Problem("bad-lexicon", "a YAML lexicon is a mapping with `entries`, a list", where)]
    head = {str(key): str(value) for key, value in data.items() if key != "entries"}
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)  # the same text with its lines
    nodes = next(value.value for key, value in root.value if key.value == "entries")
    lines = [node.start_mark.line + 1 for node in nodes]
    rows: Rows = []
    problems: list[Problem] = []
    for number, row in zip(lines, data["entries"], strict=True):
        if isinstance(row, Mapping):
            rows.append((number, row))
        else:
            problems.append(_no_object(row, f"{where}:{number}"))
    return head, rows, problems


def _no_object(row: object, where: str) -> Problem:
    return Problem("bad-lexicon", f"an entry is a mapping of fields, not `{str(row)[:40]}`", where)

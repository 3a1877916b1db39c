"""Reads local evaluation files as the texts that must not stand in a training corpus.

In: paths of JSONL (also .gz, .zst) and text files. Out: `EvaluationText`s, which `decontamination` indexes. A record
gives each of its texts on its own, and each question together with each of its answers, for benchmarks leak as whole
items: `{"query": …, "choices": […]}` gives the query, every choice, and the query followed by every choice.
"""

from __future__ import annotations

import glob
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import zstandard

from curation.errors import ConfigError, Problem

# Names that benchmark files give to the part shown first and to the parts that may follow it, in reading order.
CONTEXT_FIELDS = ("passage", "context", "context_options", "ctx", "premise", "prompt", "query", "question", "goal")
COMPLETION_FIELDS = (
    "choices chosen rejected continuation completion endings options answer answers best correct incorrect "
    "hypothesis sol1 sol2 ans0 ans1 ans2 suffix"
)
ID_FIELDS = ("id", "example_id", "ind", "qid")
MAX_CONTEXTS = 16  # alternatives of one record's context that are paired with its completions


@dataclass(frozen=True)
class EvaluationText:
    """One text of an evaluation item. `item` is `<file stem>:<id or #line>`."""

    item: str
    text: str


def matching_files(pattern: str) -> list[Path]:
    """The files a path or glob names, sorted; empty when there is none."""
    return sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())


def read_evaluation_texts(patterns: tuple[str, ...], fields: tuple[str, ...] | None) -> list[EvaluationText]:
    """Every text of every item, in the order of the files and their lines.

    Args:
        fields: top-level fields to read; None: every string in the record.

    Raises:
        ConfigError: a file that is missing, unreadable or not what its suffix says, with its path.
    """
    texts: list[EvaluationText] = []
    for pattern in patterns:
        paths = matching_files(pattern)
        if not paths:
            raise ConfigError(Problem("unreadable-file", f"no evaluation file `{pattern}`", pattern))
        for path in paths:
            try:
                texts.extend(_read(path, fields))
            except (OSError, EOFError, ValueError, zstandard.ZstdError) as error:
                message = f"cannot read evaluation file `{path}`: {error}"
                raise ConfigError(Problem("unreadable-file", message, str(path))) from None
    return texts


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file, decompressed by its suffix (.gz, .zst)."""
    with path.open("rb") as file:
        if path.suffix == ".gz":
            raw: Any = gzip.GzipFile(fileobj=file)
        elif path.suffix == ".zst":
            raw = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        else:
            raw = file
        yield io.TextIOWrapper(raw, encoding="utf-8")


def _read(path: Path, fields: tuple[str, ...] | None) -> Iterator[EvaluationText]:
    stem = path.name.split(".")[0]
    is_json = any(suffix in {".jsonl", ".json", ".ndjson"} for suffix in path.suffixes)
    with open_text(path) as file:
        if not is_json:
            for number, paragraph in enumerate(file.read().split("\n\n")):
                yield EvaluationText(f"{stem}:#{number}", paragraph)
            return
        for number, line in enumerate(file):
            if not line.strip():
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"line {number + 1} is not a JSON object")  # noqa: TRY004
            name = next((str(record[key]) for key in ID_FIELDS if key in record), f"#{number}")
            for text in texts_of(record, fields):
                yield EvaluationText(f"{stem}:{name}", text)


def texts_of(record: dict[str, Any], fields: tuple[str, ...] | None) -> list[str]:
    """The distinct texts of one record: its strings by paragraph, and every context followed by every completion."""
    chosen = {k: v for k, v in record.items() if k not in ID_FIELDS and (fields is None or k in fields)}
    alone = [part for value in chosen.values() for text in _strings(value) for part in text.split("\n\n")]
    groups = [list(_strings(chosen[name])) for name in CONTEXT_FIELDS if name in chosen]
    contexts = [
        " ".join(parts) for parts in itertools.islice(itertools.product(*(g for g in groups if g)), MAX_CONTEXTS)
    ]
    completions = [text for name in COMPLETION_FIELDS.split() if name in chosen for text in _strings(chosen[name])]
    joined = [f"{context} {completion}" for context in contexts if context for completion in completions]
    return list(dict.fromkeys(joined + [c for c in contexts if c] + alone))


def _strings(value: Any) -> Iterator[str]:
    """All strings inside a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)

"""Labelled sets on disk → rows of (text, label, group), as a fit job describes them. Used by `fit` and `evaluate`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import zstandard
from pydantic import Field

from curation.errors import ConfigError, Problem
from curation.seeding import derive_seed, unit_hash
from curation.settings import Settings

WINDOW_LOG = 27  # zstd --long=27: the largest window the sets were written with


class LabelledSet(Settings):
    """One file, which of its labels count as toxic or clean, and why its weights may ship."""

    path: str
    licence: str
    field: str = Field(default="label", description="dotted path of the label")
    toxic: tuple[str, ...] = ()
    clean: tuple[str, ...] = ()
    text: str = Field(default="text", description="dotted path of the text")
    clean_text: str | None = Field(default=None, description="dotted path of a clean rewrite of each toxic row")
    all_clean: bool = Field(default=False, description="unlabelled ordinary text, taken as clean")
    limit: int | None = Field(default=None, description="rows per class, drawn by hash")
    group: str | None = Field(default=None, description="dotted path of what must not be split, e.g. a template id")

    @property
    def name(self) -> str:
        return Path(self.path).name.split(".")[0]


@dataclass(frozen=True)
class Row:
    """One labelled text."""

    source: str
    id: str
    text: str
    toxic: bool
    group: str

    def split(self, seed: int) -> str:
        """train (8 of 10), calibration (1) or test (1), by hash of set and group."""
        at = unit_hash(f"{self.source}/{self.group}", seed)
        return "calibration" if at < 0.1 else "test" if at < 0.2 else "train"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a .jsonl or .jsonl.zst file.

    Raises:
        ConfigError: no such file.
    """
    try:
        with path.open("rb") as raw:
            stream: Any = raw
            if path.suffix == ".zst":
                decoder = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
                stream = io.BufferedReader(decoder.stream_reader(raw))
            for line in stream:
                yield orjson.loads(line)
    except FileNotFoundError:
        raise ConfigError(Problem("no-data", "labelled set not found", str(path))) from None


def load_set(spec: LabelledSet, root: Path, seed: int) -> list[Row]:
    """Rows of one set, in hash order, at most `limit` a class."""
    rows = []
    for raw in read_rows(root / spec.path):
        label = str(dotted(raw, spec.field))
        text = str(dotted(raw, spec.text) or "").strip()
        toxic = label in spec.toxic
        if not text or not (toxic or spec.all_clean or label in spec.clean):
            continue
        group = str(dotted(raw, spec.group) or raw["id"]) if spec.group else str(raw["id"])
        rows.append(Row(spec.name, str(raw["id"]), text, toxic, group))
        rewrite = dotted(raw, spec.clean_text) if spec.clean_text else None
        if rewrite:
            rewrite = rewrite[0] if isinstance(rewrite, list) else rewrite
            rows.append(Row(spec.name, f"{raw['id']}/clean", str(rewrite), False, group))
    # Another seed than `Row.split` has: with the same one a limit would keep the rows of lowest hash: held-out ones.
    rows.sort(key=lambda row: (unit_hash(f"{row.source}/{row.id}", derive_seed(seed, "draw")), row.id))
    if spec.limit is None:
        return rows
    kept = [row for row in rows if row.toxic][: spec.limit]
    return kept + [row for row in rows if not row.toxic][: spec.limit]


def every_so_manieth(root: Path, paths: Iterable[str], step: int, offset: int = 0) -> list[str]:
    """The texts of the rows offset, offset + step, … of every file."""
    return [
        str(row["text"]) for path in paths for index, row in enumerate(read_rows(root / path)) if index % step == offset
    ]


def dotted(row: Any, path: str) -> Any:
    """row[a][b] for `a.b`; None where a step is missing."""
    for step in path.split("."):
        if not isinstance(row, dict) or step not in row:
            return None
        row = row[step]
    return row

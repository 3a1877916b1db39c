"""A finished run, read: the manifest, and columns of its shards row by row. Writes nothing.

Called by every verb that looks at a run (`verify`, `inspect`, `audit`) and by the report, which passes its own opener.
Rows of documents/, signals/, index/ and of each arm's part of decisions/ stand in one order per shard, so a document
is addressed by (shard, row) and columns are joined by position.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.document import VERDICTS
from curation.errors import ConfigError, DataContractError, Problem, unknown_name
from curation.seeding import unit_hash
from curation.sources.base import FileOpener, LocalFiles

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
I8 = npt.NDArray[np.int8]
I64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
KEEP, REDACT, DROP, QUARANTINE = range(len(VERDICTS))


@dataclass(frozen=True)
class FinishedRun:
    """One run on disk; `path` is where it lies, `opener` how its files are opened."""

    path: str
    manifest: dict[str, Any]
    opener: FileOpener

    @property
    def arms(self) -> list[str]:
        return list(self.manifest["arms"])

    @property
    def shards(self) -> int:
        return int(self.manifest["shards"])

    def uri(self, relative: str) -> str:
        return f"{self.path.rstrip('/')}/{relative}"

    @contextmanager
    def parquet(self, relative: str, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """An open Parquet file of the run; `dictionaries`: string columns to be read dictionary-encoded."""
        with self.opener.open(self.uri(relative)) as stream:
            yield pq.ParquetFile(stream, read_dictionary=list(dictionaries))

    def table(self, relative: str, columns: Sequence[str]) -> pa.Table:
        with self.parquet(relative) as file:
            return file.read(columns=list(columns))

    @cached_property
    def listed(self) -> dict[str, dict[str, Any]]:
        """path → {documents, bytes, sha256} of every file that the manifest names."""
        found = {entry["path"]: entry for entry in self.manifest["files"]}
        for arm in self.manifest["arms"].values():
            found |= {entry["path"]: entry for entry in (*arm["shards"], *arm["removed_shards"])}
        for entries in (self.manifest.get("tokens") or {}).get("arms", {}).values():
            found |= {entry["path"]: entry for entry in entries["files"]}
        return dict(sorted(found.items()))

    def rows(self, shard: int) -> int:
        """Documents of a shard."""
        return int(self.listed[part("documents", shard)]["documents"])

    def groups(self, shard: int) -> I64:
        """First row of every row group of documents/ and, last, the number of rows."""
        if shard not in self._bounds:
            self._bounds[shard] = self._read_bounds(shard)
        return self._bounds[shard]

    @cached_property
    def _bounds(self) -> dict[int, I64]:
        return {}

    def _read_bounds(self, shard: int) -> I64:
        with self.parquet(part("documents", shard)) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        return np.concatenate(([0], np.cumsum(np.array(sizes, np.int64)))).astype(np.int64)

    def decision_file(self, arm: str, shard: int) -> str:
        sampled = self.manifest["arms"][arm]["ruleset"]["sample"] is not None
        return part("decisions", shard, "part-sampled" if sampled else "part")

    def decisions(self, arm: str, shard: int, columns: Sequence[str], groups: Sequence[int] | None = None) -> pa.Table:
        """Columns of decisions/ for one arm, one row a document of the shard, in order.

        Args:
            groups: only the documents of these row groups of documents/: an arm has one for each of them.
        """
        with self.parquet(self.decision_file(arm, shard), ["verdict"]) as file:
            chosen = [group for group in range(file.num_row_groups) if _ruleset_of(file, group) == arm]
            if groups is not None:
                chosen = [chosen[group] for group in groups]
            return file.read_row_groups(chosen, columns=list(columns))

    def decisions_at(self, arm: str, shard: int, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of decisions/ for one arm at some rows of a shard, in the order asked for."""
        bounds = self.groups(shard)
        wanted = np.array(rows, np.int64)
        groups = np.unique(np.searchsorted(bounds, wanted, side="right") - 1).tolist()
        at = np.searchsorted(self.rows_in(shard, groups), wanted)
        found: list[dict[str, Any]] = self.decisions(arm, shard, columns, groups).take(pa.array(at)).to_pylist()
        return found

    def rows_in(self, shard: int, groups: Sequence[int] | None) -> I64:
        """Row numbers of the documents of some row groups, in order; None: of the whole shard."""
        if groups is None:
            return np.arange(self.rows(shard))
        bounds = self.groups(shard)
        pieces = [np.arange(bounds[group], bounds[group + 1]) for group in groups]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def spread(self, documents: int) -> dict[int, list[int]]:
        """shard → row groups of documents/, spread evenly over the run, that hold about `documents` in all."""
        places = [(shard, group) for shard in range(self.shards) for group in range(len(self.groups(shard)) - 1)]
        total = sum(self.rows(shard) for shard in range(self.shards))
        if total > documents:
            count = max(1, round(len(places) * documents / total))
            chosen = np.linspace(0, len(places) - 1, count + 2)[1:-1]
            places = [places[at] for at in np.unique(chosen.round().astype(int)).tolist()]
        found: dict[int, list[int]] = {}
        for shard, group in places:
            found.setdefault(shard, []).append(group)
        return found

    def verdicts(self, shard: int) -> dict[str, I8]:
        """arm → index into `VERDICTS` for each document of a shard."""
        found: dict[str, I8] = {}
        for path in sorted({self.decision_file(arm, shard) for arm in self.arms}):
            pieces: dict[str, list[I8]] = {}
            with self.parquet(path, ["verdict"]) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=["verdict"])
                    pieces.setdefault(_ruleset_of(file, group), []).append(verdict_codes(table["verdict"]))
            found |= {arm: np.concatenate(parts) for arm, parts in pieces.items()}
        empty = np.zeros(0, np.int8)
        return {arm: found.get(arm, empty) for arm in self.arms}

    def duplicate_rows(self, shard: int) -> Bools:
        """Which documents of a shard the dedup pass calls duplicates, whatever the arms do with that."""
        is_duplicate = np.zeros(self.rows(shard), bool)
        if part("duplicates", shard) in self.listed:
            is_duplicate[self.table(part("duplicates", shard), ["row"])["row"].to_numpy()] = True
        return is_duplicate

    def documents_at(self, shard: int, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Columns of documents/ at some rows of a shard, in the order asked for."""
        return self.rows_of(part("documents", shard), rows, columns)

    def rows_of(self, relative: str, rows: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of a Parquet file of the run; only the row groups that hold one of them are read."""
        found: dict[int, dict[str, Any]] = {}
        wanted = np.unique(np.array(rows, np.int64))
        with self.parquet(relative) as file:
            first = 0
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                here = wanted[(wanted >= first) & (wanted < first + count)]
                if len(here):
                    table = file.read_row_group(group, columns=list(columns)).take(pa.array(here - first))
                    found |= dict(zip(here.tolist(), table.to_pylist(), strict=True))
                first += count
        return [found[row] for row in rows]

    def arm_named(self, name: str) -> str:
        """`name`, checked. Raises ConfigError with the arms there are."""
        if name not in self.arms:
            raise ConfigError(unknown_name("arm", name, self.arms, f"{self.path}/{MANIFEST}"))
        return name


def part(folder: str, shard: int, stem: str = "part") -> str:
    """`folder/part-00007.parquet`, relative to the run."""
    return f"{folder}/{stem}-{shard:05d}.parquet"


def load_run(path: str, opener: FileOpener | None = None) -> FinishedRun:
    """The finished run at a local path; a folder with `latest` in it stands for that run.

    Raises:
        ConfigError: there is no finished run. DataContractError: its manifest cannot be read.
    """
    folder = Path(path)
    if not (folder / MANIFEST).is_file() and (folder / "latest" / MANIFEST).is_file():
        folder = folder / "latest"
    if not (folder / MANIFEST).is_file():
        hint = "`headwater curate` prints the path of the run it made as its last line"
        raise ConfigError(Problem("no-run", f"`{path}` is not a finished run: it has no {MANIFEST}", hint=hint))
    where = str(folder / MANIFEST)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = Problem("bad-manifest", f"the manifest cannot be read: {error}", where, "JSON as `curate` wrote it")
        raise DataContractError(problem) from None
    if version != SCHEMA_VERSION:
        problem = Problem("other-schema", f"schema_version is {version}", where, str(SCHEMA_VERSION))
        raise DataContractError(problem)
    return FinishedRun(str(folder), manifest, opener or LocalFiles())


def verdict_codes(column: pa.ChunkedArray) -> I8:
    """Index into `VERDICTS` of each value of a string (or dictionary) column."""
    codes = pc.index_in(column.cast(pa.string()), value_set=pa.array(VERDICTS))
    chunks = [chunk.to_numpy().astype(np.int8) for chunk in codes.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int8)


def lowest_hashes(doc_ids: Sequence[str], count: int, seed: int = 0) -> list[int]:
    """Positions of the `count` ids of the smallest unit hash: a sample that neither order nor sharding changes."""
    ranked = sorted((unit_hash(doc_id, seed), doc_id, position) for position, doc_id in enumerate(doc_ids))
    return [position for _, _, position in ranked[:count]]


def _ruleset_of(file: pq.ParquetFile, group: int) -> str:
    """The arm of a row group of decisions/: each holds one, so its statistics say it without reading a row."""
    position = file.schema_arrow.get_field_index("ruleset")
    statistics = file.metadata.row_group(group).column(position).statistics
    if statistics is not None and statistics.has_min_max and statistics.min == statistics.max:
        return str(statistics.min)
    return str(file.read_row_group(group, columns=["ruleset"])["ruleset"][0].as_py())

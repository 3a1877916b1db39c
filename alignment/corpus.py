"""A curation run's arms, read for training: ids, sources and texts, each distinct text under one number.

Arms share most of their texts, so a text is hashed to a number where it is met, and read, encoded and kept once.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash

from alignment.slots import ArmDocuments
from curation.errors import ConfigError, DataContractError, Problem
from curation.finished_run import FinishedRun

BATCH = 4096  # documents read at a time


@dataclass(frozen=True)
class Corpus:
    """The documents of some arms of a finished run."""

    run: FinishedRun
    arms: dict[str, ArmDocuments]
    bytes_of: list[int]  # UTF-8 bytes of each distinct text
    blank: frozenset[int]  # texts of nothing but white space

    def texts(self) -> Iterator[str]:
        """Every distinct text once, in the order of their numbers."""
        seen: set[bytes] = set()
        for arm in self.arms:
            for path in _shards(self.run, arm):
                for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=["text"]):
                    for text in batch["text"].to_pylist():
                        key = _key(text)
                        if key not in seen:
                            seen.add(key)
                            yield text


def read_corpus(run: FinishedRun, arms: Sequence[str], topic: Sequence[str] = ()) -> Corpus:
    """Read and check the shards of `arms`.

    Args:
        topic: metadata fields, the first that a document has is its topic; none: topics are not read.

    Raises:
        ConfigError: the run has no such arm, or a document has none of the fields of `topic`.
        DataContractError: a shard is not the one the manifest lists, or holds another number of documents.
    """
    numbers: dict[bytes, int] = {}
    bytes_of: list[int] = []
    blank: set[int] = set()
    found: dict[str, ArmDocuments] = {}
    for arm in arms:
        doc_ids: list[str] = []
        sources: list[str] = []
        texts: list[int] = []
        topics: list[str | None] = []
        columns = ["doc_id", "text", "source", *(["metadata"] if topic else [])]
        for path, listed in zip(_shards(run, arm), run.manifest["arms"][arm]["shards"], strict=True):
            _check(path, listed)
            before = len(doc_ids)
            for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=columns):
                doc_ids += batch["doc_id"].to_pylist()
                sources += batch["source"].to_pylist()
                if topic:
                    topics += [topic_of(metadata, topic) for metadata in batch["metadata"].to_pylist()]
                for text in batch["text"].to_pylist():
                    number = numbers.setdefault(_key(text), len(bytes_of))
                    if number == len(bytes_of):
                        bytes_of.append(len(text.encode("utf-8", "surrogatepass")))
                        if not text.strip():
                            blank.add(number)
                    texts.append(number)
            if len(doc_ids) - before != listed["documents"]:
                found_here = f"{len(doc_ids) - before:,} documents"
                raise DataContractError(
                    Problem("other-count", found_here, str(path), f"{listed['documents']:,}, as the manifest says")
                )
        _check_topics(arm, sources, topics, topic)
        named = [name or "" for name in topics]
        found[arm] = ArmDocuments(doc_ids, np.array(texts, np.int64), sources, named)
    return Corpus(run, found, bytes_of, frozenset(blank))


def topic_of(metadata: str | None, fields: Sequence[str]) -> str | None:
    """`field=value` of the first of `fields` that a document's metadata (a JSON object) has; None: it has none."""
    given = json.loads(metadata) if metadata else {}
    return next((f"{name}={given[name]}" for name in fields if given.get(name) not in (None, "")), None)


def _check_topics(arm: str, sources: Sequence[str], topics: Sequence[str | None], fields: Sequence[str]) -> None:
    without = Counter(source for source, name in zip(sources, topics, strict=False) if name is None)
    if without:
        per_source = ", ".join(f"{source} {count:,}" for source, count in sorted(without.items()))
        message = f"{without.total():,} of {len(topics):,} documents of arm `{arm}` have no topic ({per_source})"
        expected = f"one of {', '.join(fields)} in the metadata of every document"
        hint = "name a field that every source has in `tokens.topic`, or replace by `same_source`"
        raise ConfigError(Problem("no-topic", message, "tokens.topic", expected, hint))


def duplicates(run: FinishedRun) -> set[str]:
    """Ids of documents that have an exact or near copy in the run."""
    copies = originals(run)
    return {*copies, *copies.values()}


def originals(run: FinishedRun) -> dict[str, str]:
    """Id of every exact or near copy → id of the document that it is a copy of."""
    found: dict[str, str] = {}
    for shard in range(run.shards):
        path = Path(run.path) / f"duplicates/part-{shard:05d}.parquet"
        if path.is_file():
            table = pq.read_table(path, columns=["doc_id", "duplicate_of"])
            found.update(zip(table["doc_id"].to_pylist(), table["duplicate_of"].to_pylist(), strict=True))
    return found


def identity(run: FinishedRun, arms: Sequence[str]) -> dict[str, Any]:
    """What identifies the texts of `arms`: the sha256 of every shard."""
    return {arm: [entry["sha256"] for entry in run.manifest["arms"][run.arm_named(arm)]["shards"]] for arm in arms}


def _shards(run: FinishedRun, arm: str) -> list[Path]:
    entries = run.manifest["arms"][run.arm_named(arm)]["shards"]
    return [Path(run.path) / entry["path"] for entry in entries]


def _check(path: Path, listed: dict[str, Any]) -> None:
    hint = "`headwater verify RUN` lists everything that is wrong with a run"
    if not path.is_file():
        raise DataContractError(Problem("missing-file", "the shard is missing", str(path), hint=hint))
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != listed["sha256"]:
        raise DataContractError(Problem("other-hash", f"sha256 is {sha256}", str(path), listed["sha256"], hint))


def _key(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass"))

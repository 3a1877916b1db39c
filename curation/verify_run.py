"""`headwater verify RUN`: re-compute what the manifest claims, and name every file that says otherwise.

1. every listed file: there, as long as listed, the same sha256, the same number of rows;
2. no file that nobody listed, and none half-written;
3. shard by shard: each arm and what it removed are exactly what decisions/ says, in order;
4. counts per verdict, per reason code and of bytes add up to the manifest, and the conservation lines hold;
5. every duplicate names a document that exists and is kept;
6. inputs that are still there are still the same.

A shard with a damaged file is left out of 3 to 5: its rows prove nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import DataContractError, Problem
from curation.finished_run import MANIFEST, FinishedRun, load_run
from curation.verify_rows import ShardCheck, check_duplicates, check_shard

BLOCK_BYTES = 1 << 22
# What a run holds beside the files that the manifest lists, by first folder.
UNLISTED = (MANIFEST, "report.html", "dead_letter/", "work/job.json", "work/markers/")
TEMPORARY = ".tmp-"


@dataclass
class Verification:
    """What was checked and all that is wrong."""

    run: str
    problems: list[Problem] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    shards_checked: int = 0
    shards_skipped: list[int] = field(default_factory=list)
    documents: int = 0
    duplicates: int = 0
    inputs_same: list[str] = field(default_factory=list)
    inputs_gone: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "ok": not self.problems}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="path of a finished run")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Verify and print.

    Raises:
        DataContractError: something is wrong; carries every problem.
    """
    found = verify(load_run(args.run))
    if args.json:
        print(json.dumps(found.plain(), ensure_ascii=False))
    if found.problems:
        raise DataContractError(*found.problems)
    if not args.json:
        print(summary(found))
    return 0


def summary(found: Verification) -> str:
    """What was proved, for people."""
    gone = f", {len(found.inputs_gone)} gone or remote: {', '.join(found.inputs_gone)}" if found.inputs_gone else ""
    return "\n".join(
        (
            f"{found.run} is what its manifest says",
            f"  files         {found.files} with {found.bytes / 1e6:,.1f} MB: every sha256, size and row count",
            f"  documents     {found.documents:,} in {found.shards_checked} shards: every arm is what decisions/ says",
            "  conservation  every arm and reason code adds up",
            f"  duplicates    {found.duplicates:,}, each of a document that is kept",
            f"  inputs        {len(found.inputs_same)} unchanged{gone}",
        )
    )


def verify(run: FinishedRun) -> Verification:
    """Everything that is wrong with a run; an empty list of problems when it is whole."""
    result = Verification(run.path)
    threads = max(2, os.cpu_count() or 1)  # hashing, zstd and Arrow all let go of the interpreter
    with ThreadPoolExecutor(threads) as pool:
        damaged = set()
        for path, problems in pool.map(lambda item: _file_problems(run, *item), run.listed.items()):
            result.problems += problems
            if problems:
                damaged.add(path)
        result.files = len(run.listed)
        result.bytes = sum(int(entry["bytes"]) for entry in run.listed.values())
        result.problems += _strangers(run)
        result.problems += _conservation(run)
        whole = [shard for shard in range(run.shards) if not any(path in damaged for path in _files_of(run, shard))]
        result.shards_skipped = sorted(set(range(run.shards)) - set(whole))
        checks = list(pool.map(lambda shard: _guarded(run, shard), whole))
        for check in checks:
            result.problems += check.problems
            result.documents += check.documents
        result.shards_checked = len(whole)
        if not result.shards_skipped and not any(check.unreadable for check in checks):
            result.problems += _totals(run, checks)
            problems, result.duplicates = check_duplicates(run)
            result.problems += problems
        _inputs(run, result, pool.map)
    return result


def _guarded(run: FinishedRun, shard: int) -> ShardCheck:
    """`check_shard`, with a file that Arrow cannot read as one more problem."""
    try:
        return check_shard(run, shard)
    except (pa.ArrowException, KeyError) as error:
        problem = Problem("unreadable-shard", f"shard {shard} cannot be read: {error}", run.path, "columns as written")
        return ShardCheck(shard, [problem], unreadable=True)


def _file_problems(run: FinishedRun, path: str, entry: dict[str, Any]) -> tuple[str, list[Problem]]:
    """What is wrong with one listed file."""
    where = f"{run.path}/{path}"
    try:
        size, sha256 = _hash(Path(where))
    except OSError as error:
        listed = f"a file of {entry['bytes']:,} bytes"
        return path, [Problem("missing-file", f"cannot read: {error.strerror or error}", where, listed)]
    problems = []
    if size != entry["bytes"]:
        problems.append(Problem("other-size", f"{size:,} bytes", where, f"{entry['bytes']:,} bytes"))
    if sha256 != entry["sha256"]:
        problems.append(Problem("other-hash", f"sha256 is {sha256}", where, str(entry["sha256"])))
    elif path.endswith(".parquet"):
        rows = pq.read_metadata(where).num_rows
        if rows != entry["documents"]:
            problems.append(Problem("other-rows", f"{rows:,} rows", where, f"{entry['documents']:,} rows"))
    return path, problems


def _hash(path: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _files_of(run: FinishedRun, shard: int) -> Iterator[str]:
    """The listed files of one shard."""
    ending = f"-{shard:05d}.parquet"
    return (path for path in run.listed if path.endswith(ending))


def _strangers(run: FinishedRun) -> list[Problem]:
    """Files that nobody listed, half-written ones first."""
    problems = []
    root = Path(run.path)
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if TEMPORARY in path.name:
            problems.append(Problem("half-written", "left by a writer that was killed", str(path), "no such file"))
        elif name not in run.listed and not name.startswith(UNLISTED):
            problems.append(Problem("unlisted-file", f"{MANIFEST} does not name it", str(path), "no such file"))
    return problems


def _conservation(run: FinishedRun) -> list[Problem]:
    """read = kept + redacted + dropped + quarantined + dead, and the arm's own numbers are the same."""
    problems = []
    where = f"{run.path}/{MANIFEST}"
    dead = 0
    for path in sorted(Path(run.path).glob("dead_letter/part-*.jsonl")):
        dead += path.read_bytes().count(b"\n")
    if dead != run.manifest["dead_letters"]:
        lines = f"{run.manifest['dead_letters']:,} lines"
        problems.append(Problem("other-count", f"{dead:,} dead letters", f"{run.path}/dead_letter", lines))
    for name, line in run.manifest["conservation"].items():
        arm = run.manifest["arms"][name]
        parts = {key: line[key] for key in ("kept", "redacted", "dropped", "quarantined", "dead")}
        expected = {**{key: arm[key] for key in ("kept", "redacted", "dropped", "quarantined")}, "dead": dead}
        if line["read"] != sum(parts.values()):
            text = f"arm `{name}`: {sum(parts.values()):,} documents accounted for"
            problems.append(Problem("not-conserved", text, where, f"{line['read']:,} records read"))
        if parts != expected:
            problems.append(Problem("not-conserved", f"arm `{name}`: {parts}", where, str(expected)))
        tokens = (run.manifest.get("tokens") or {}).get("arms", {}).get(name)
        if tokens is not None and tokens["documents"] != arm["documents"]:
            text = f"arm `{name}`: tokens of {tokens['documents']:,} documents"
            problems.append(Problem("other-count", text, where, f"{arm['documents']:,}"))
    return problems


def _totals(run: FinishedRun, checks: list[ShardCheck]) -> list[Problem]:
    """Counts over all shards against the manifest, per arm, verdict and reason code."""
    problems = []
    where = f"{run.path}/{MANIFEST}"
    documents = sum(check.documents for check in checks)
    if documents != run.manifest["documents"]:
        claimed = f"{run.manifest['documents']:,}"
        problems.append(Problem("other-count", f"documents/ holds {documents:,} documents", where, claimed))
    for name, arm in run.manifest["arms"].items():
        counted: Counter[str] = Counter()
        removed_by: Counter[str] = Counter()
        for check in checks:
            counted.update(check.counts[name])
            removed_by.update(check.removed_by[name])
        claimed_counts = {key: arm[key] for key in ("kept", "redacted", "dropped", "quarantined", "bytes")}
        for key, value in claimed_counts.items():
            if counted[key] != value:
                text = f"arm `{name}`: {key} {value:,} in the manifest"
                problems.append(Problem("other-count", text, where, f"{counted[key]:,}, as decisions/ and texts say"))
        for code in sorted(set(removed_by) | set(arm["removed_by"])):
            claimed = arm["removed_by"].get(code, 0)
            if removed_by[code] != claimed:
                text = f"arm `{name}`: reason `{code}` {claimed:,} in the manifest"
                problems.append(Problem("other-count", text, where, f"{removed_by[code]:,}, as decisions/ says"))
    return problems


def _inputs(run: FinishedRun, result: Verification, each: Callable[..., Any]) -> None:
    """Compare the inputs that can be opened from here; the others are named, not judged."""

    def look(item: dict[str, Any]) -> str | None:
        path = Path(str(item["uri"]).removeprefix("file://"))
        return _hash(path)[1] if "://" not in str(path) and path.is_file() else None

    for item, sha256 in zip(run.manifest["inputs"], each(look, run.manifest["inputs"]), strict=True):
        if sha256 is None or item["sha256"] is None:
            result.inputs_gone.append(item["uri"])
        elif sha256 == item["sha256"]:
            result.inputs_same.append(item["uri"])
        else:
            hint = "the run is still what it was; it was not made of what lies there now"
            problem = Problem("other-input", f"sha256 is {sha256}", item["uri"], item["sha256"], hint)
            result.problems.append(problem)

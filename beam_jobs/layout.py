"""Where the files of a run lie. Every path below RUN is made here and nowhere else."""

from __future__ import annotations

from typing import Any

from beam_jobs import io

MANIFEST = "manifest.json"


def part(folder: str, shard: int, suffix: str = "parquet") -> str:
    """`folder/part-00007.parquet`, relative to the run."""
    return f"{folder}/part-{shard:05d}.{suffix}"


def documents(shard: int) -> str:
    return part("documents", shard)


def signals(shard: int) -> str:
    return part("signals", shard)


def duplicates(shard: int) -> str:
    return part("duplicates", shard)


def decisions(shard: int) -> str:
    return part("decisions", shard)


def dead_letter(shard: int) -> str:
    return part("dead_letter", shard, "jsonl")


def arm(name: str, shard: int) -> str:
    return part(f"arms/{name}", shard)


def removed(name: str, shard: int) -> str:
    return part(f"removed/{name}", shard)


def index(shard: int) -> str:
    """Content hash, id and band hashes of every document: what the dedup pass reads, and later runs dedup against."""
    return part("index", shard)


def measured(shard: int) -> str:
    return part("work/measured", shard)


def verdicts(shard: int) -> str:
    """Per row of a shard: exact (0/1) and near (Jaccard), as the `dedup` filter judges them."""
    return part("work/verdicts", shard)


def lines(shard: int) -> str:
    """Hash and place of every line that is long enough; only when some arm looks for repeated lines."""
    return part("work/lines", shard)


def line_verdicts(shard: int) -> str:
    """The lines of a shard that are not the first of their kind."""
    return part("work/line_verdicts", shard)


def scores(shard: int) -> str:
    """What the classifiers say of the documents that outlived deduplication, null for the others."""
    return part("work/scores", shard)


def sample_base(shard: int) -> str:
    return part("work/sample", shard)


def marker(name: str, shard: int) -> str:
    """Written last: task `shard` of pass `name` is finished, and this is what it wrote."""
    return part(f"work/markers/{name}", shard, "json")


def finished(run: str, name: str, shards: int) -> dict[int, dict[str, Any]]:
    """shard → what its marker says, for the finished tasks of a pass."""
    found = {}
    for uri in io.match(io.join(run, "work", "markers", name, "part-*.json")):
        shard = int(uri.rsplit("part-", 1)[1].removesuffix(".json"))
        if shard < shards:
            found[shard] = io.read_json(uri)
    return found

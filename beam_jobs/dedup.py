"""Pass 2, dedup: index/ of all shards → duplicates/ of all shards.

1 bands     star edges of every bucket, on disk (`bands.py`);
2 components connected components of all edges, on the driver (`bands.py`);
3 shingles  per shard: shingle sets of the documents that must be compared, laid out by partition;
4 verify    per partition of whole components: exact Jaccard, one rule for who stays (`curation.dedup.verify`);
5 finish    duplicates/part-*: which document each one copies and how closely.

Text is read again in step 3 and never shuffled. Exact duplicates share a bucket of their own (their content hash), so
they cost one edge each and only one of them is ever compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs import io, layout
from beam_jobs.bands import IndexShard, band_edges, content_hash, read_components
from beam_jobs.candidate_text import gather_shingles, write_shingles
from beam_jobs.context import RunContext, load_context
from beam_jobs.runners import RunnerSettings, Task, run_tasks
from curation.dedup.candidates import row_of, shard_of
from curation.dedup.settings import DedupSettings
from curation.dedup.verify import Candidates, preference_order, verify
from curation.document import DUPLICATES
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

VERIFY_PARTITION_BYTES = 64 << 20  # shingles of one verify task, about

DUPLICATES_FILE = pa.schema([*DUPLICATES, pa.field("row", pa.int64(), nullable=False)])


def run_dedup(context: RunContext, shards: list[IndexShard], runner: RunnerSettings) -> dict[str, Any]:
    """The whole pass; returns its statistics. Deterministic: arrival order and partitions leave no trace."""
    settings = context.job.dedup
    band_edges(context, shards, runner)
    keys, component = read_components(context)
    members = Members.load(shards, keys, component)
    exact = members.exact_representatives()
    stats: dict[str, Any] = {
        "candidates": len(keys),
        "components": len(np.unique(component)),
        "largest_component": int(np.bincount(component).max(initial=0)) if len(keys) else 0,
        "comparisons": 0,
        "capped": 0,
    }
    near_of, jaccard = np.arange(len(keys)), np.zeros(len(keys))
    if settings.near:
        tasks = _compare_tasks(context, shards, members, exact, settings)
        run_tasks("shingles", context.run, tasks.shingles, "beam_jobs.dedup:shingle_shard", {}, runner, False)
        run_tasks("verify", context.run, tasks.verify, "beam_jobs.dedup:verify_partition", {}, runner, False)
        for uri in io.match(io.join(context.run, "work/dedup/verified-*.npz")):
            found = _load(uri)
            at = np.searchsorted(keys, found["keys"])
            near_of[at] = np.searchsorted(keys, found["kept_as"])
            jaccard[at] = found["jaccards"]
            stats["comparisons"] += int(found["comparisons"])
            stats["capped"] += int(found["capped"])
    stats |= _write_duplicates(context, shards, members, exact, near_of, jaccard)
    io.remove_tree(io.join(context.run, "work/dedup"))
    return stats


@dataclass(frozen=True)
class Members:
    """What is known of every candidate, sorted by row key; arrays of one length."""

    keys: U64
    component: I64
    fixed: npt.NDArray[np.bool_]
    content: U64  # (members, 2)
    id_hash: U64
    length: I64

    @classmethod
    def load(cls, shards: list[IndexShard], keys: U64, component: I64) -> Members:
        content, id_hash = np.zeros((len(keys), 2), np.uint64), np.zeros(len(keys), np.uint64)
        length, fixed = np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
        for shard, at in _by_shard(shards, keys):
            with io.parquet_file(shard.uri) as file:
                table = file.read(columns=["sha256", "id_hash", "length"])
            rows = row_of(keys[at])
            content[at] = content_hash(table["sha256"])[rows]
            id_hash[at] = table["id_hash"].to_numpy()[rows]
            length[at] = table["length"].to_numpy()[rows]
            fixed[at] = shard.fixed
        return cls(keys, component, fixed, content, id_hash, length)

    def exact_representatives(self) -> I64:
        """For each member the index of the one with the same content that stands for it."""
        order = np.lexsort((self.keys, self.id_hash, ~self.fixed, self.content[:, 1], self.content[:, 0]))
        sorted_content = self.content[order]
        new = np.ones(len(order), bool)
        new[1:] = (sorted_content[1:] != sorted_content[:-1]).any(axis=1)
        first = order[np.flatnonzero(new)]
        chosen = np.empty(len(order), np.int64)
        chosen[order] = first[np.cumsum(new) - 1] if len(order) else first
        return chosen


def _by_shard(shards: list[IndexShard], keys: U64) -> Iterator[tuple[IndexShard, I64]]:
    """Shards that hold some of `keys` (sorted), with the indices of those keys."""
    if not len(keys):
        return
    numbered = {shard.number: shard for shard in shards}
    numbers = shard_of(keys)
    starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
    for begin, end in pairwise([*starts.tolist(), len(keys)]):
        yield numbered[int(numbers[begin])], np.arange(begin, end)


@dataclass(frozen=True)
class _Tasks:
    shingles: list[Task]
    verify: list[Task]


def _compare_tasks(
    context: RunContext, shards: list[IndexShard], members: Members, exact: I64, settings: DedupSettings
) -> _Tasks:
    """Plans for steps 3 and 4: whole components to partitions of about equal weight."""
    stands = exact == np.arange(len(exact))
    count = np.bincount(members.component[stands], minlength=len(exact)) if len(exact) else np.zeros(0, np.int64)
    compared = np.flatnonzero(stands & (count[members.component] > 1))
    component = members.component[compared]
    weight = members.length[compared]
    # Components in order, cut where the running weight passes a partition's size: a component is never split.
    totals = np.zeros(len(exact), np.int64)
    np.add.at(totals, component, weight)
    running = np.cumsum(totals) - totals
    partition = (running // VERIFY_PARTITION_BYTES)[component] if len(component) else component
    large = count[component] > settings.all_pairs_up_to if len(component) else np.zeros(0, bool)
    shingle_tasks = []
    for shard, at in _by_shard(shards, members.keys[compared]):
        plan = io.join(context.run, f"work/dedup/plan-shingles-{shard.number:05d}.npz")
        _save(plan, rows=row_of(members.keys[compared[at]]), partition=partition[at])
        shingle_tasks.append(
            {
                "run": context.run,
                "shard": shard.number,
                "documents": shard.documents_uri,
                "plan": plan,
                "ngram": settings.ngram,
                "weight": int(weight[at].sum()),
            }
        )
    verify_tasks = []
    order = np.argsort(partition, kind="stable")
    bounds = np.flatnonzero(np.diff(partition[order])) + 1
    for at in np.split(order, bounds) if len(order) else []:
        number, chosen = int(partition[at[0]]), compared[at]
        plan = io.join(context.run, f"work/dedup/plan-verify-{number:05d}.npz")
        _save(
            plan,
            keys=members.keys[chosen],
            component=component[at],
            fixed=members.fixed[chosen],
            content=members.content[chosen, 0],
            id_hash=members.id_hash[chosen],
            length=members.length[chosen],
            bands=_bands_of(shards, members.keys[chosen], large[at], settings),
        )
        holders = np.unique(shard_of(members.keys[chosen])).tolist()
        verify_tasks.append(
            {"run": context.run, "partition": number, "plan": plan, "shards": holders, "weight": int(weight[at].sum())}
        )
    return _Tasks(shingle_tasks, verify_tasks)


def _bands_of(shards: list[IndexShard], keys: U64, large: npt.NDArray[np.bool_], settings: DedupSettings) -> U64:
    """Band keys of the members of large components, zeros for the others, which are compared pair by pair."""
    bands = np.zeros((len(keys), settings.bands), np.uint64)
    if not large.any():
        return bands[:, :1]
    chosen = np.flatnonzero(large)
    for shard, at in _by_shard(shards, keys[chosen]):
        rows = row_of(keys[chosen[at]])
        with io.parquet_file(shard.uri) as file:
            table = file.read(columns=[f"band_{band:03d}" for band in range(settings.bands)])
        for band in range(settings.bands):
            bands[chosen[at], band] = table.column(band).to_numpy()[rows]
    return bands


def shingle_shard(task: Task, _: dict[str, Any]) -> None:
    """Step 3 for one shard."""
    plan = _load(task["plan"])
    prefix = io.join(task["run"], f"work/dedup/shingles-{task['shard']:05d}")
    write_shingles(prefix, task["documents"], plan["rows"], plan["partition"], task["ngram"], task["shard"])


def verify_partition(task: Task, _: dict[str, Any]) -> None:
    """Step 4 for one partition of components."""
    settings = load_context(task["run"]).job.dedup
    plan = _load(task["plan"])
    prefixes = [io.join(task["run"], f"work/dedup/shingles-{shard:05d}") for shard in task["shards"]]
    flat, offsets = gather_shingles(prefixes, task["partition"], plan["keys"])
    order = preference_order(
        plan["component"], plan["fixed"], plan["length"], plan["content"], plan["id_hash"], settings.keep
    )
    component = plan["component"][order]
    starts = np.flatnonzero(np.concatenate(([True], component[1:] != component[:-1], [True])))
    bands = np.ascontiguousarray(plan["bands"][order])
    members = Candidates(starts, plan["fixed"][order], bands, flat, offsets[:-1][order], offsets[1:][order])
    result = verify(members, settings)
    keys = plan["keys"][order]
    removed = np.flatnonzero(result.kept_as != np.arange(len(keys)))
    _save(
        io.join(task["run"], f"work/dedup/verified-{task['partition']:05d}.npz"),
        keys=keys[removed],
        kept_as=keys[result.kept_as[removed]],
        jaccards=result.jaccards[removed],
        comparisons=np.int64(result.comparisons),
        capped=np.int64(result.capped),
    )


def _write_duplicates(
    context: RunContext,
    shards: list[IndexShard],
    members: Members,
    exact: I64,
    near_of: I64,
    jaccard: npt.NDArray[np.float64],
) -> dict[str, int]:
    """Step 5: one file a shard of this run, rows in order; documents of earlier runs are named, never removed."""
    own = np.arange(len(members.keys))
    is_exact = (exact != own) & ~members.fixed
    is_near = (near_of != own) & ~is_exact & ~members.fixed
    copied = np.where(is_exact, exact, near_of)
    root = near_of[exact]
    sizes = np.bincount(root, minlength=len(own)) if len(own) else np.zeros(0, np.int64)
    removed = np.flatnonzero(is_exact | is_near)
    named = np.unique(np.concatenate((removed, copied[removed])))
    ids = _doc_ids(shards, members.keys[named])

    def id_of(at: I64) -> Any:
        return ids.take(pa.array(np.searchsorted(named, at))).cast(pa.string())

    files = []
    holders = shard_of(members.keys[removed])
    for shard in shards:
        if shard.fixed:
            continue
        begin, end = np.searchsorted(holders, [shard.number, shard.number + 1])
        at = removed[begin:end]
        table = pa.table(
            [
                id_of(at),
                id_of(copied[at]),
                pc.if_else(pa.array(is_exact[at]), "exact", "near"),
                pa.array(np.where(is_exact[at], 1.0, jaccard[at])),
                pa.array(sizes[root[at]].astype(np.int64)),
                pa.array(row_of(members.keys[at])),
            ],
            schema=DUPLICATES_FILE,
        )
        with io.parquet_shards(context.run, {"d": (layout.duplicates(shard.number), DUPLICATES_FILE)}) as out:
            out["d"].write(table)
            files.append(out["d"].close().plain())
    return {"exact": int(is_exact.sum()), "near": int(is_near.sum()), "files": files}  # type: ignore[dict-item]


def _doc_ids(shards: list[IndexShard], keys: U64) -> Any:
    """doc_id of every one of `keys` (sorted), an Arrow array: 20 million ids as Python strings were 2 GB."""
    found = [pa.array([], pa.large_string())]
    for shard, at in _by_shard(shards, keys):
        with io.parquet_file(shard.uri) as file:
            column = file.read(columns=["doc_id"])["doc_id"].combine_chunks()
        found.append(column.take(pa.array(row_of(keys[at]))).cast(pa.large_string()))
    return pa.concat_arrays(found)


def _save(uri: str, **arrays: Any) -> None:
    with io.writing(uri) as stream:
        np.savez(stream, **arrays)


def _load(uri: str) -> dict[str, Any]:
    with io.BeamOpener().open(uri) as stream, np.load(stream) as found:
        return dict(found)

"""Pass 2, dedup: index/ of all shards → duplicates/ of all shards.

1 bands     star edges of every bucket, on disk (`bands.py`);
2 components connected components of all edges, on the driver (`bands.py`);
3 shingles  sets of the documents that must be compared, by who holds their text (`shingle_files.py`);
4 verify    per partition of whole components: exact Jaccard, one rule for who stays (`verification.py`);
5 finish    duplicates/part-*: which document each one copies and how closely.

Text is read again in step 3 and never shuffled. Exact duplicates share a bucket of their own (their content hash), so
they cost one edge each and only one of them is ever compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs import io, layout
from beam_jobs.bands import IndexShard as IndexShard
from beam_jobs.bands import band_edges, read_components
from beam_jobs.bands import content_hash as content_hash
from beam_jobs.context import RunContext
from beam_jobs.runners import RunnerSettings, run_tasks
from beam_jobs.shingle_files import TEXT_SETS
from beam_jobs.verification import Compared, by_shard, plan_comparisons
from curation.dedup.candidates import row_of, shard_of
from curation.document import DUPLICATES
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

DUPLICATES_FILE = pa.schema([*DUPLICATES, pa.field("row", pa.int64(), nullable=False)])


def run_dedup(
    context: RunContext, shards: list[IndexShard], runner: RunnerSettings, sets: str = TEXT_SETS
) -> dict[str, Any]:
    """The whole pass; returns its statistics. Deterministic: arrival order and partitions leave no trace.

    Args:
        sets: `module:function` that gives the shingle sets of documents; those of their texts but in a simulation.
    """
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
        compared = members.to_compare(exact, settings.all_pairs_up_to)
        groups, tasks = plan_comparisons(context, shards, compared, sets)
        run_tasks("shingles", context.run, groups, "beam_jobs.shingle_files:shingle_group", {}, runner, False)
        run_tasks("verify", context.run, tasks, "beam_jobs.verification:verify_task", {}, runner, False)
        for uri in io.match(io.join(context.run, "work/dedup/verified-*.npz")):
            with io.BeamOpener().open(uri) as stream, np.load(stream) as found:
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
        for shard, at in by_shard(shards, keys):
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

    def to_compare(self, exact: I64, all_pairs_up_to: int) -> Compared:
        """One of each content, in components of more than one such."""
        stands = exact == np.arange(len(exact))
        count = np.bincount(self.component[stands], minlength=len(exact))[self.component]
        at = np.flatnonzero(stands & (count > 1))
        return Compared(
            self.keys[at],
            self.component[at],
            self.fixed[at],
            self.content[at, 0],
            self.id_hash[at],
            self.length[at],
            count[at] > all_pairs_up_to,
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
    for shard, at in by_shard(shards, keys):
        with io.parquet_file(shard.uri) as file:
            column = file.read(columns=["doc_id"])["doc_id"].combine_chunks()
        found.append(column.take(pa.array(row_of(keys[at]))).cast(pa.large_string()))
    return pa.concat_arrays(found)

"""Pass 2, step 4: which candidates are compared where, and the comparing.

A partition holds whole components, 64 to 256 MiB of text together, and is one task. A large component heavier than that
is a task of its own: its members, in order of preference, are cut into pieces that come one after the other, so that it
may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from beam_jobs import io
from beam_jobs.bands import IndexShard
from beam_jobs.context import RunContext, load_context
from beam_jobs.runners import Task
from beam_jobs.shingle_files import read_partition
from curation.dedup.candidates import row_of, shard_of
from curation.dedup.large_components import LargeComponent, Piece
from curation.dedup.settings import DedupSettings
from curation.dedup.verify import Candidates, Verified, preference_order, verify
from curation.kernels.shingles import U64
from curation.kernels.text_batch import I64

# Text whose sets (a little more than the text itself) one task holds. It grows with the corpus up to 256 MiB, because
# tasks that write sets and tasks that read them meet in a file range each: 4,096 times 4,096 for 1 TB of candidates.
LEAST_PARTITION_BYTES, MOST_PARTITION_BYTES = 64 << 20, 256 << 20
PARTITIONS = 4096
LEAST_GROUPS = 256  # tasks that write sets, where there are as many shards: enough for every worker to have some


@dataclass(frozen=True)
class Compared:
    """The documents that are compared, sorted by row key; arrays of one length."""

    keys: U64
    component: I64
    fixed: npt.NDArray[np.bool_]
    content: U64
    id_hash: U64
    length: I64
    large: npt.NDArray[np.bool_]  # in a component of more than `all_pairs_up_to`

    def take(self, at: I64) -> Compared:
        return Compared(*(column[at] for column in vars(self).values()))

    def preferred(self, keep: str) -> I64:
        """Their order by component, and in it from the most to the least preferred."""
        return preference_order(self.component, self.fixed, self.length, self.content, self.id_hash, keep)


@dataclass(frozen=True)
class Layout:
    """Where each document is compared."""

    partition: I64  # of each document
    tasks: list[I64]  # of each task, its documents; of one whose component is cut, in order of preference
    cut: list[bool]


def partition_bytes(total: int) -> int:
    """Of text in a partition when all candidates have `total`."""
    return min(MOST_PARTITION_BYTES, max(LEAST_PARTITION_BYTES, total // PARTITIONS))


def lay_out(compared: Compared, keep: str) -> Layout:
    """Whole components to partitions in their order, cut where the running weight passes a partition's size."""
    size = partition_bytes(int(compared.length.sum()))
    partition = np.zeros(len(compared.keys), np.int64)
    names, component = np.unique(compared.component, return_inverse=True)
    totals = np.bincount(component, compared.length, len(names)).astype(np.int64)
    heavy = np.zeros(len(names), bool)
    heavy[component] = compared.large & (totals > size)[component]
    running = np.cumsum(np.where(heavy, 0, totals)) - np.where(heavy, 0, totals)
    # As dense numbers: a partition that nothing falls into has none.
    whole = np.flatnonzero(~heavy[component])
    _, partition[whole] = np.unique((running // size)[component[whole]], return_inverse=True)
    order = whole[np.argsort(partition[whole], kind="stable")]
    tasks = np.split(order, np.flatnonzero(np.diff(partition[order])) + 1) if len(order) else []
    cut = [False] * len(tasks)
    number = len(tasks)
    of_heavy = np.flatnonzero(heavy[component])
    of_heavy = of_heavy[np.argsort(component[of_heavy], kind="stable")]
    for at in np.split(of_heavy, np.flatnonzero(np.diff(component[of_heavy])) + 1) if len(of_heavy) else []:
        ordered = at[compared.take(at).preferred(keep)]
        _, piece = np.unique((np.cumsum(compared.length[ordered]) - 1) // size, return_inverse=True)
        partition[ordered] = number + piece
        number += int(piece[-1]) + 1
        tasks.append(ordered)
        cut.append(True)
    return Layout(partition, tasks, cut)


def plan_comparisons(
    context: RunContext, shards: Sequence[IndexShard], compared: Compared, sets: str
) -> tuple[list[Task], list[Task]]:
    """The tasks of steps 3 and 4, and the arrays they read, on disk."""
    settings = context.job.dedup
    layout = lay_out(compared, settings.keep)
    groups = list(_groups(context, shards, compared, layout, sets))
    shards_of = shard_of(compared.keys)
    group_of = np.zeros(len(compared.keys), np.int64)
    for number, task in enumerate(groups):
        numbers = [shard["shard"] for shard in task["shards"]]
        group_of[slice(*np.searchsorted(shards_of, [numbers[0], numbers[-1] + 1]))] = number
    tasks: list[Task] = []
    for number, (at, cut) in enumerate(zip(layout.tasks, layout.cut, strict=True)):
        chosen = compared.take(at)
        plan = io.join(context.run, f"work/dedup/plan-verify-{number:05d}.npz")
        # Of a piece its own groups: of all of them only when it needs all.
        _save(plan, **vars(chosen), partition=layout.partition[at], group=group_of[at].astype(np.int32))
        tasks.append(
            {
                "run": context.run,
                "number": number,
                "plan": plan,
                "cut": cut,
                "prefix": io.join(context.run, "work/dedup/shingles"),
                "weight": int(chosen.length.sum()),
            }
        )
    return groups, tasks


def _groups(
    context: RunContext, shards: Sequence[IndexShard], compared: Compared, layout: Layout, sets: str
) -> Iterator[Task]:
    """Tasks that write the sets of consecutive shards."""
    settings = context.job.dedup
    size = partition_bytes(int(compared.length.sum()))
    parts = list(by_shard(shards, compared.keys))
    most_shards = -(-len(parts) // LEAST_GROUPS)
    listed: list[Task] = []
    weight = number = 0
    for position, (shard, at) in enumerate(parts):
        plan = io.join(context.run, f"work/dedup/plan-shingles-{shard.number:05d}.npz")
        _save(plan, rows=row_of(compared.keys[at]), partition=layout.partition[at], large=compared.large[at])
        listed.append({"shard": shard.number, "documents": shard.documents_uri, "index": shard.uri, "plan": plan})
        weight += int(compared.length[at].sum())
        if weight >= size or len(listed) == most_shards or position == len(parts) - 1:
            yield {
                "shards": listed,
                "prefix": io.join(context.run, f"work/dedup/shingles-{number:05d}"),
                "sets": sets,
                "ngram": settings.ngram,
                "bands": settings.bands,
                "weight": weight,
            }
            listed, weight, number = [], 0, number + 1


def by_shard(shards: Sequence[IndexShard], keys: U64) -> Iterator[tuple[IndexShard, I64]]:
    """Shards that hold some of `keys` (sorted), with the indices of those keys."""
    if not len(keys):
        return
    numbered = {shard.number: shard for shard in shards}
    numbers = shard_of(keys)
    starts = np.flatnonzero(np.concatenate(([True], numbers[1:] != numbers[:-1])))
    for begin, end in pairwise([*starts.tolist(), len(keys)]):
        yield numbered[int(numbers[begin])], np.arange(begin, end)


def verify_task(task: Task, _: dict[str, Any]) -> None:
    """Step 4 for one partition, or for one component that is cut."""
    settings = load_context(task["run"]).job.dedup
    with io.BeamOpener().open(task["plan"]) as stream, np.load(stream) as found:
        plan = dict(found)
    partition, group = plan.pop("partition"), plan.pop("group")
    compared = Compared(**plan)
    walk = _walk_pieces if task["cut"] else _walk_partition
    result, keys = walk(task["prefix"], compared, partition, group, settings)
    removed = np.flatnonzero(result.kept_as != np.arange(len(keys)))
    _save(
        io.join(task["run"], f"work/dedup/verified-{task['number']:05d}.npz"),
        keys=keys[removed],
        kept_as=keys[result.kept_as[removed]],
        jaccards=result.jaccards[removed],
        comparisons=np.int64(result.comparisons),
        capped=np.int64(result.capped),
    )


def _read(prefix: str, partition: int, keys: U64, groups: npt.NDArray[np.int32], bands: int) -> tuple[U64, I64, U64]:
    return read_partition([f"{prefix}-{group:05d}" for group in np.unique(groups).tolist()], partition, keys, bands)


def _walk_partition(
    prefix: str, compared: Compared, partition: I64, group: npt.NDArray[np.int32], settings: DedupSettings
) -> tuple[Verified, U64]:
    """Small components at once, large ones one by one."""
    flat, offsets, band_rows = _read(prefix, int(partition[0]), compared.keys, group, settings.bands)
    order = compared.preferred(settings.keep)
    ordered = compared.take(order)
    begins, ends = offsets[:-1][order], offsets[1:][order]
    kept_as, jaccards = np.arange(len(order)), np.zeros(len(order))
    small = np.flatnonzero(~ordered.large)
    unused = np.zeros((len(small), 1), np.uint64)
    starts = _starts(ordered.component[small])
    result = verify(Candidates(starts, ordered.fixed[small], unused, flat, begins[small], ends[small]), settings)
    kept_as[small], jaccards[small] = small[result.kept_as], result.jaccards
    comparisons, capped = result.comparisons, result.capped
    band_row = np.cumsum(compared.large) - 1
    large = np.flatnonzero(ordered.large)
    for begin, end in pairwise(_starts(ordered.component[large]).tolist()):
        at = large[begin:end]
        component = LargeComponent(len(at), settings)
        bands = band_rows[band_row[order[at]]]
        found, similarity = component.walk(Piece(ordered.fixed[at], bands, flat, begins[at], ends[at]))
        kept_as[at], jaccards[at] = at[found], similarity
        comparisons, capped = comparisons + component.comparisons, capped + component.capped
    return Verified(kept_as, jaccards, comparisons, capped), ordered.keys


def _starts(component: I64) -> I64:
    """Where each component begins, and the end."""
    if not len(component):
        return np.zeros(1, np.int64)
    return np.flatnonzero(np.concatenate(([True], component[1:] != component[:-1], [True])))


def _walk_pieces(
    prefix: str, compared: Compared, partition: I64, group: npt.NDArray[np.int32], settings: DedupSettings
) -> tuple[Verified, U64]:
    """One component whose members are in order of preference, piece by piece."""
    component = LargeComponent(len(compared.keys), settings)
    kept_as, jaccards = np.empty(len(partition), np.int64), np.empty(len(partition))
    for begin, end in pairwise(_starts(partition).tolist()):
        keys = compared.keys[begin:end]
        order = np.argsort(keys)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        flat, offsets, bands = _read(prefix, int(partition[begin]), keys[order], group[begin:end], settings.bands)
        piece = Piece(compared.fixed[begin:end], bands[place], flat, offsets[:-1][place], offsets[1:][place])
        kept_as[begin:end], jaccards[begin:end] = component.walk(piece)
    return Verified(kept_as, jaccards, component.comparisons, component.capped), compared.keys


def _save(uri: str, **arrays: Any) -> None:
    with io.writing(uri) as stream:
        np.savez(stream, **arrays)

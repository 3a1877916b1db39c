"""`headwater audit RUN`: whom the arms remove. Removal rates by dialect, identity term and source, as ratios.

For every arm and group: the share of its documents that were dropped or quarantined, over the same share in a named
reference group, with a 95 % bootstrap interval. 1 means treated alike. Duplicates are left out of every count: which
copy goes says nothing about a text.

- dialect: a proxy by words (`curation/dialect.py`); reference: texts whose words are most likely White American English
- identity: documents that name a group of people (`lexicon/identity_terms.tsv`); reference: the group marked there, or
  documents that name none when that one is too small
- source: reference: all other documents

Dialect and identity look at texts: at a sample of row groups spread evenly over the run, and documents of the smallest
hash within them. Source is counted over all documents.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from curation.bootstrap import interval, ratio_of, resampled_counts, resampled_sums
from curation.dialect import dialect_groups, topic_shares
from curation.errors import ConfigError, Problem
from curation.finished_run import DROP, I8, I64, Bools, FinishedRun, load_run, part
from curation.identity_terms import identities, identity_table
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms
from curation.seeding import derive_seed, unit_hash

NONE = "no identity term"
# Below this a rate says little: at 50 documents and a true rate of 10 % the 95 % interval is 2 to 18 %.
MIN_GROUP = 50
SAMPLE = 100_000  # documents read by `audit`; the report reads fewer
SAMPLE_GROUPS = 64  # row groups read at most


@dataclass(frozen=True)
class AuditRow:
    """One group under one arm."""

    arm: str
    kind: str  # dialect | identity: <category> | source
    group: str
    reference: str
    documents: int
    removed: int
    reference_documents: int
    reference_removed: int
    ratio: float | None
    low: float | None
    high: float | None

    @property
    def rate(self) -> float:
        return self.removed / self.documents if self.documents else 0.0


@dataclass(frozen=True)
class Audit:
    """All rows, and how many documents they rest on."""

    rows: list[AuditRow]
    documents: int  # of the run, duplicates left out
    sampled: int  # of them, read for dialect and identity
    too_small: list[str]  # groups of fewer than MIN_GROUP documents


@dataclass(frozen=True)
class _Groups:
    """Group → members among the sampled documents, and group → (kind, reference)."""

    members: dict[str, Bools]
    of: dict[str, tuple[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="path of a finished run")
    parser.add_argument(
        "--documents", type=int, default=SAMPLE, metavar="N",
        help=f"how many documents to read for dialect and identity (default {SAMPLE:,})",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Audit and print."""
    if args.documents < 1:
        raise ConfigError(Problem("bad-value", f"`--documents {args.documents}`", None, "at least 1"))
    found = audit(load_run(args.run), args.documents, groups=10**9 if args.documents > SAMPLE else SAMPLE_GROUPS)
    if args.json:
        rows = [{**asdict(row), "rate": row.rate} for row in found.rows]
        print(json.dumps({**asdict(found), "rows": rows}, ensure_ascii=False))
    else:
        print(table_text(found))
    return 0


def audit(run: FinishedRun, documents: int = SAMPLE, groups: int = SAMPLE_GROUPS) -> Audit:
    """Every arm's removal ratios. The same run gives the same numbers: seeds are fixed, samples go by hash."""
    verdicts = {shard: run.verdicts(shard) for shard in range(run.shards)}
    duplicates = {shard: run.duplicate_rows(shard) for shard in range(run.shards)}
    rows = _by_source(run, verdicts, duplicates)
    total = sum(int((~mask).sum()) for mask in duplicates.values())
    if not any(
        (verdict[~duplicates[shard]] >= DROP).any() for shard in verdicts for verdict in verdicts[shard].values()
    ):
        return Audit([], total, 0, [])
    texts, removed = _sample(run, verdicts, duplicates, documents, groups)
    found, too_small = _by_text(run.arms, texts, removed)
    return Audit(found + rows, total, len(texts), too_small)


def _by_source(run: FinishedRun, verdicts: dict[int, dict[str, I8]], duplicates: dict[int, Bools]) -> list[AuditRow]:
    """Counts per source over all documents; sources share none, so their draws are independent."""
    sizes: dict[str, int] = {}
    removed: dict[str, dict[str, int]] = {arm: {} for arm in run.arms}
    for shard in range(run.shards):
        with run.parquet(part("documents", shard), ["source"]) as file:
            source = file.read(columns=["source"])["source"].combine_chunks()
        source = source.dictionary_encode() if not pa.types.is_dictionary(source.type) else source
        source = source.chunk(0) if isinstance(source, pa.ChunkedArray) and source.num_chunks else source
        if not len(source):
            continue
        codes, names, alive = source.indices.to_numpy(), source.dictionary.to_pylist(), ~duplicates[shard]
        _tally(sizes, names, codes[alive])
        for arm, verdict in verdicts[shard].items():
            _tally(removed[arm], names, codes[alive & (verdict >= DROP)])
    names = sorted(name for name, size in sizes.items() if size >= MIN_GROUP)
    size = np.array([sizes[name] for name in names], np.float64)
    rows = []
    for arm in run.arms:
        gone = np.array([removed[arm].get(name, 0) for name in names], np.float64)
        if len(names) < 2 or not gone.any():
            continue
        seed = derive_seed(0, "audit", "source", arm)
        drawn = resampled_counts(np.concatenate((gone, size - gone)), seed)
        drawn_gone = drawn[:, : len(names)]
        drawn_size = drawn_gone + drawn[:, len(names) :]
        for at, name in enumerate(names):
            others = np.arange(len(names)) != at
            reference = (float(gone[others].sum()), float(size[others].sum()))
            low, high = interval(
                drawn_gone[:, at], drawn_size[:, at], drawn_gone[:, others].sum(1), drawn_size[:, others].sum(1)
            )
            ratio = ratio_of(gone[at], size[at], *reference)
            rows.append(
                _row(arm, ("source", "all other sources"), name, (gone[at], size[at]), reference, ratio, low, high)
            )
    return rows


def _tally(counts: dict[str, int], names: Sequence[str], codes: I64) -> None:
    for name, count in zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True):
        if count:
            counts[name] = counts.get(name, 0) + count


def _row(
    arm: str, of: tuple[str, str], group: str, mine: tuple[float, float], theirs: tuple[float, float],
    ratio: float | None, low: float | None, high: float | None,
) -> AuditRow:  # fmt: skip
    known = ratio is not None
    return AuditRow(
        arm, of[0], group, of[1], int(mine[1]), int(mine[0]), int(theirs[1]), int(theirs[0]),
        ratio, low if known else None, high if known else None,
    )  # fmt: skip


def _sample(
    run: FinishedRun, verdicts: dict[int, dict[str, I8]], duplicates: dict[int, Bools], documents: int, groups: int
) -> tuple[pa.ChunkedArray, dict[str, Bools]]:
    """Texts of the sampled documents, and arm → which of them were dropped or quarantined."""
    places = [
        (shard, group, int(first), int(last))
        for shard in range(run.shards)
        for bounds in [run.groups(shard)]
        for group, (first, last) in enumerate(pairwise(bounds))
        if last > first
    ]
    if len(places) > groups:
        places = [places[i] for i in np.linspace(0, len(places) - 1, groups).round().astype(int)]
    alive = sum(int((~duplicates[shard][first:last]).sum()) for shard, _, first, last in places)
    share = documents / alive if alive > documents else 1.0
    texts: list[pa.Array] = []
    removed: dict[str, list[Bools]] = {arm: [] for arm in run.arms}
    for shard, group, first, last in places:
        with run.parquet(part("documents", shard)) as file:
            table = file.read_row_group(group, columns=["doc_id", "text"])
        mask = ~duplicates[shard][first:last]
        if share < 1.0:
            mask &= np.array([unit_hash(doc_id, 0) < share for doc_id in table["doc_id"].to_pylist()], bool)
        rows = np.flatnonzero(mask)
        texts += table["text"].take(pa.array(rows)).chunks
        for arm in run.arms:
            removed[arm].append(verdicts[shard][arm][first:last][rows] >= DROP)
    gone = {arm: np.concatenate(parts) if parts else np.zeros(0, bool) for arm, parts in removed.items()}
    return pa.chunked_array(texts, pa.string()), gone


def _by_text(
    arms: Sequence[str], texts: pa.ChunkedArray, removed: dict[str, Bools]
) -> tuple[list[AuditRow], list[str]]:
    """Rows of dialect and identity: one set of draws for all arms and groups."""
    groups = _group_texts(texts)
    sizes = {name: int(mask.sum()) for name, mask in groups.members.items()}
    kept_names = [name for name, size in sizes.items() if size >= MIN_GROUP]
    too_small = sorted(name for name in groups.of if name not in kept_names)
    judged = [arm for arm in arms if removed[arm].any()]
    if not judged or not kept_names:
        return [], too_small
    base = [groups.members[name] for name in kept_names]
    columns = [mask.astype(np.float32) for mask in base]
    for arm in judged:
        columns += [(mask & removed[arm]).astype(np.float32) for mask in base]
    drawn = resampled_sums(np.stack(columns, axis=1), derive_seed(0, "audit", "text"))
    rows = []
    for number, arm in enumerate(judged, 1):
        for name, (kind, reference) in groups.of.items():
            reference = reference if reference in kept_names else NONE
            if name not in kept_names or reference not in kept_names or reference == name:
                continue
            me, them, n = kept_names.index(name), kept_names.index(reference), len(kept_names)
            counts = [int((groups.members[g] & removed[arm]).sum()) for g in (name, reference)]
            ratio = ratio_of(counts[0], sizes[name], counts[1], sizes[reference])
            low, high = interval(drawn[:, number * n + me], drawn[:, me], drawn[:, number * n + them], drawn[:, them])
            label = name.split(": ", 1)[-1]
            of = (kind, reference.split(": ", 1)[-1])
            rows.append(_row(arm, of, label, (counts[0], sizes[name]), (counts[1], sizes[reference]), ratio, low, high))
    return rows, too_small


def _group_texts(texts: pa.ChunkedArray) -> _Groups:
    """Who is in which group, batch by batch: word tables are an order of magnitude larger than texts."""
    shares, counts, named = [], [], []
    for chunk in texts.chunks:
        batch = TextBatch(chunk)
        found, known = topic_shares(batch)
        shares.append(found)
        counts.append(known)
        named.append(identities(terms(batch)))
    dialect = dialect_groups(
        np.concatenate(shares) if shares else np.zeros((0, 4)),
        np.concatenate(counts) if counts else np.zeros(0, np.int64),
    )
    members = {"dialect: AAE": dialect.aae, "dialect: AAE-leaning": dialect.aae_leaning, "dialect: WAE": dialect.wae}
    of = {"dialect: AAE": ("dialect", "dialect: WAE"), "dialect: AAE-leaning": ("dialect", "dialect: WAE")}
    table = np.concatenate(named) if named else np.zeros((0, len(identity_table().groups)), bool)
    references = {
        category: f"{category}: {group}" for category, group, is_reference in identity_table().groups if is_reference
    }
    for at, (category, group, is_reference) in enumerate(identity_table().groups):
        name = f"{category}: {group}"
        members[name] = table[:, at]
        # The reference group itself is compared with documents that name nobody.
        of[name] = (f"identity: {category}", NONE if is_reference else references.get(category, NONE))
    members[NONE] = np.logical_not(table.any(axis=1))
    return _Groups(members, of)


def table_text(found: Audit) -> str:
    """The audit as a text table, one block an arm."""
    if not found.rows:
        return "no arm removes anything but duplicates from groups large enough to compare"
    head = ("group", "documents", "removed", "rate", "reference", "rate", "ratio", "95 % interval")
    lines = [
        f"{found.documents:,} documents without duplicates; dialect and identity by a sample of {found.sampled:,}",
        f"{len(found.too_small)} groups of fewer than {MIN_GROUP} documents are left out (--json names them)",
    ]
    for arm in dict.fromkeys(row.arm for row in found.rows):
        cells = [head]
        for row in (row for row in found.rows if row.arm == arm):
            reference_rate = row.reference_removed / row.reference_documents
            cells.append(
                (f"{row.kind.removeprefix('identity: ')}: {row.group}", f"{row.documents:,}", f"{row.removed:,}",
                 f"{row.rate:.2%}", row.reference, f"{reference_rate:.2%}", number(row.ratio),
                 f"{number(row.low)} to {number(row.high)}")
            )  # fmt: skip
        widths = [max(len(cell[i]) for cell in cells) for i in range(len(head))]
        lines += ["", f"arm `{arm}`"]
        for cell in cells:
            left = {0, 4}
            padded = [
                c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(cell, widths, strict=True))
            ]
            lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"

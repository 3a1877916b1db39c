"""`headwater audit RUN`: whom the arms remove. Removal rates by dialect, identity term, source and topic, as ratios.

For every arm and group: the share of its documents that were dropped or quarantined, over the same share in a named
reference group, with a 95 % bootstrap interval. 1 means treated alike. Duplicates are left out of every count: which
copy goes says nothing about a text.

- dialect: a proxy by words (`curation/dialect.py`); reference: texts whose words are most likely White American English
- identity: documents that name a group of people (`lexicon/identity_terms.tsv`); reference: the group marked there, or
  documents that name none when that one is too small
- source, topic (`topic` or `topic_id` of the metadata): reference: all other documents that have one

Dialect and identity look at texts: at a sample of row groups spread evenly over the run, and documents of the smallest
hash within them. They also have a ratio *adjusted* for source and length (`curation/strata.py`). Source and topic are
counted over all documents.

The yardstick is C4's word list: an arm of the run that applies it, else it is applied to the sample here.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.audit_table import table_text
from curation.bootstrap import interval, ratio_of, resampled_counts, resampled_sums
from curation.dialect import dialect_groups, topic_shares
from curation.errors import ConfigError, Problem
from curation.finished_run import DROP, I8, I64, Bools, FinishedRun, load_run, part
from curation.identity_terms import identities, identity_table
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import derive_seed, unit_hash
from curation.strata import Adjusted, adjusted_ratio, strata

NONE = "no identity term"
YARDSTICK = "C4 word list"  # arm of this name: any word of LDNOOBW (English), applied to the sample
BLOCKLIST = "blocklist"  # the filter that does the same in a run
# Values of one document's metadata, which is JSON with sorted keys (`curation/document.py`).
TOPIC = r'"topic(?:_id)?":\s*"?(?P<topic>[^",}]+)'
# Below this a rate says little: at 50 documents and a true rate of 10 % the 95 % interval is 2 to 18 %.
MIN_GROUP = 50
SAMPLE = 100_000  # documents read by `audit`; the report reads fewer
SAMPLE_GROUPS = 64  # row groups read at most
MAX_SOURCES = 20  # the largest of the sample have strata of their own, the others share theirs
BY = ("filter", "reason")
# Upper 97.5 % bound of a Poisson mean of which nothing was counted: -ln 0.025 (Garwood 1936).
NONE_REMOVED = 3.689
UNADJUSTED = Adjusted(None, None, None)


@dataclass(frozen=True)
class AuditRow:
    """One group under one arm."""

    arm: str
    kind: str  # dialect | identity: <category> | source | topic
    group: str
    reference: str
    documents: int
    removed: int
    reference_documents: int
    reference_removed: int
    ratio: float | None
    low: float | None
    high: float | None
    filter: str = ""  # of the arm's filters the one that named a reason; empty: the whole arm
    adjusted: float | None = None  # the ratio at equal source and length; dialect and identity only
    adjusted_low: float | None = None
    adjusted_high: float | None = None

    @property
    def rate(self) -> float:
        return self.removed / self.documents if self.documents else 0.0


@dataclass(frozen=True)
class Audit:
    """All rows, and how many documents they rest on."""

    rows: list[AuditRow]
    documents: int  # of the run, duplicates left out
    sampled: int  # of them, read for dialect and identity
    too_small: list[str]  # groups of fewer than `least` documents
    least: int = MIN_GROUP


Unit = tuple[str, str]  # arm, and one of its filters or reason codes; empty: the whole arm


@dataclass(frozen=True)
class _Sample:
    """Documents that are read: their texts, their strata, and unit → which of them it removed."""

    texts: pa.ChunkedArray
    stratum: I64
    removed: dict[Unit, Bools]


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
    parser.add_argument(
        "--by", choices=BY, default=BY[0],
        help="beside each arm: each of its filters (default, where it has several) or each reason code",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Audit and print."""
    if args.documents < 1:
        raise ConfigError(Problem("bad-value", f"`--documents {args.documents}`", None, "at least 1"))
    groups = 10**9 if args.documents > SAMPLE else SAMPLE_GROUPS
    found = audit(load_run(args.run), args.documents, groups, args.by)
    if args.json:
        rows = [{**asdict(row), "rate": row.rate} for row in found.rows]
        print(json.dumps({**asdict(found), "rows": rows}, ensure_ascii=False))
    else:
        print(table_text(found))
    return 0


def audit(run: FinishedRun, documents: int = SAMPLE, groups: int = SAMPLE_GROUPS, by: str = BY[0]) -> Audit:
    """Every arm's removal ratios. The same run gives the same numbers: seeds are fixed, samples go by hash.

    Args:
        documents, groups: how many documents and row groups to read at most.
        by: of `BY`; "filter" adds rows for each filter of the arms that have several, "reason" for each reason code.
    """
    verdicts = {shard: run.verdicts(shard) for shard in range(run.shards)}
    duplicates = {shard: run.duplicate_rows(shard) for shard in range(run.shards)}
    total = sum(int((~mask).sum()) for mask in duplicates.values())
    if not any(
        (verdict[~duplicates[shard]] >= DROP).any() for shard in verdicts for verdict in verdicts[shard].values()
    ):
        return Audit([], total, 0, [])
    rows = _by_column(run, "source", verdicts, duplicates) + _by_column(run, "topic", verdicts, duplicates)
    sample = _sample(run, verdicts, duplicates, documents, groups, by)
    found, too_small = _by_text(sample)
    return Audit(found + rows, total, len(sample.texts), too_small)


def _by_column(
    run: FinishedRun, kind: str, verdicts: dict[int, dict[str, I8]], duplicates: dict[int, Bools]
) -> list[AuditRow]:
    """Counts per source or topic over all documents; the groups share none, so their draws are independent."""
    sizes: dict[str, int] = {}
    removed: dict[str, dict[str, int]] = {arm: {} for arm in run.arms}
    for shard in range(run.shards):
        values = _values(run, shard, kind)
        codes, names = values.indices.fill_null(-1).to_numpy(), values.dictionary.to_pylist()
        alive = ~duplicates[shard] & (codes >= 0)
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
        seed = derive_seed(0, "audit", kind, arm)
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
            of = (kind, f"all other {kind}s")
            rows.append(_row((arm, ""), of, name, (gone[at], size[at]), reference, ratio, low, high))
    return rows


def _values(run: FinishedRun, shard: int, kind: str) -> pa.DictionaryArray:
    """Source or topic of every document of a shard, dictionary-encoded; null: it has none."""
    column = {"source": "source", "topic": "metadata"}[kind]
    values = run.table(part("documents", shard), [column])[column].combine_chunks()
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    values = values.cast(pa.string())
    if kind == "topic":
        values = pc.struct_field(pc.extract_regex(values, TOPIC), "topic")
    return values.dictionary_encode()


def _tally(counts: dict[str, int], names: Sequence[str], codes: I64) -> None:
    for name, count in zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True):
        if count:
            counts[name] = counts.get(name, 0) + count


def _row(
    unit: Unit, of: tuple[str, str], group: str, mine: tuple[float, float], theirs: tuple[float, float],
    ratio: float | None, low: float | None, high: float | None, adjusted: Adjusted = UNADJUSTED,
) -> AuditRow:  # fmt: skip
    known = ratio is not None
    if ratio == 0:  # no draw removes any: the exact bound instead, lest nothing pass for certainty
        high = ratio_of(NONE_REMOVED, mine[1], *theirs)
        adjusted = replace(adjusted, high=None)
    return AuditRow(
        unit[0], of[0], group, of[1], int(mine[1]), int(mine[0]), int(theirs[1]), int(theirs[0]),
        ratio, low if known else None, high if known else None,
        unit[1], adjusted.ratio, adjusted.low, adjusted.high,
    )  # fmt: skip


def _sample(
    run: FinishedRun, verdicts: dict[int, dict[str, I8]], duplicates: dict[int, Bools], documents: int, groups: int,
    by: str,
) -> _Sample:  # fmt: skip
    """The documents that are read, and which units removed (dropped or quarantined) which of them."""
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
    sources: list[str] = []
    pieces: list[dict[Unit, Bools]] = []
    for shard, group, first, last in places:
        with run.parquet(part("documents", shard)) as file:
            table = file.read_row_group(group, columns=["doc_id", "text", "source"])
        mask = ~duplicates[shard][first:last]
        if share < 1.0:
            mask &= np.array([unit_hash(doc_id, 0) < share for doc_id in table["doc_id"].to_pylist()], bool)
        rows = np.flatnonzero(mask)
        texts += table["text"].take(pa.array(rows)).chunks
        sources += table["source"].take(pa.array(rows)).to_pylist()
        gone = {arm: verdicts[shard][arm][first:last][rows] >= DROP for arm in run.arms}
        pieces.append({(arm, ""): mask for arm, mask in gone.items()})
        for arm in run.arms:
            if gone[arm].any() and (by == BY[1] or len(_filters(run, arm)) > 1):
                pieces[-1] |= _by_reason(run, arm, shard, group, rows, gone[arm], by)
    units = sorted({unit for piece in pieces for unit in piece}, key=lambda unit: (run.arms.index(unit[0]), unit[1]))
    sizes = [len(piece[units[0]]) for piece in pieces]
    found = {
        unit: np.concatenate([piece.get(unit, np.zeros(n, bool)) for piece, n in zip(pieces, sizes, strict=True)])
        for unit in units
    }
    chunked = pa.chunked_array(texts, pa.string())
    if not any(BLOCKLIST in _filters(run, arm) for arm in run.arms):
        found[YARDSTICK, ""] = _listed(chunked)
    return _Sample(chunked, _strata(sources, chunked), found)


def _filters(run: FinishedRun, arm: str) -> set[str]:
    """The filters of an arm's ruleset, but for deduplication."""
    return {rule["filter"] for rule in run.manifest["arms"][arm]["ruleset"]["rules"]} - {"dedup"}


def _by_reason(
    run: FinishedRun, arm: str, shard: int, group: int, rows: I64, gone: Bools, by: str
) -> dict[Unit, Bools]:
    """(arm, filter or reason code) → which of `rows` it gave a reason to remove."""
    reasons = run.decisions(arm, shard, ["reasons"], [group])["reasons"].take(pa.array(rows[gone])).combine_chunks()
    reasons = pa.concat_arrays(reasons.chunks) if isinstance(reasons, pa.ChunkedArray) else reasons
    owners = np.repeat(np.flatnonzero(gone), np.asarray(reasons.value_lengths().fill_null(0), np.int64))
    codes = reasons.flatten().field("code").dictionary_encode()
    names = [code if by == BY[1] else code.rsplit(".", 1)[0] for code in codes.dictionary.to_pylist()]
    found: dict[Unit, Bools] = {}
    for index, name in enumerate(names):
        mask = found.setdefault((arm, name), np.zeros(len(rows), bool))
        mask[owners[codes.indices.to_numpy() == index]] = True
    return found


def _listed(texts: pa.ChunkedArray) -> Bools:
    """Which texts hold a word of the English list that C4 was filtered by."""
    matcher = Matcher(load_lexicon("ldnoobw").only(["en"]), fold_disguises=False)
    listed = np.zeros(len(texts), bool)
    first = 0
    for chunk in texts.chunks:
        listed[first + np.unique(matcher.find(TextBatch(chunk)).row)] = True
        first += len(chunk)
    return listed


def _strata(sources: Sequence[str], texts: pa.ChunkedArray) -> I64:
    largest = [name for name, _ in Counter(sources).most_common(MAX_SOURCES)]
    code = {name: at for at, name in enumerate(largest)}
    codes = np.array([code.get(name, MAX_SOURCES) for name in sources], np.int64)
    found = strata(codes, pc.utf8_length(texts).to_numpy().astype(np.int64))
    dense: I64 = np.unique(found, return_inverse=True)[1].reshape(-1)
    return dense


def _by_text(sample: _Sample) -> tuple[list[AuditRow], list[str]]:
    """Rows of dialect and identity: one set of draws for all units and groups."""
    groups = _group_texts(sample.texts)
    removed = sample.removed
    sizes = {name: int(mask.sum()) for name, mask in groups.members.items()}
    kept_names = [name for name, size in sizes.items() if size >= MIN_GROUP]
    too_small = sorted(name for name in groups.of if name not in kept_names)
    judged = [unit for unit, mask in removed.items() if mask.any()]
    if not judged or not kept_names:
        return [], too_small
    base = [groups.members[name] for name in kept_names]
    columns = [mask.astype(np.float32) for mask in base]
    for unit in judged:
        columns += [(mask & removed[unit]).astype(np.float32) for mask in base]
    drawn = resampled_sums(np.stack(columns, axis=1), derive_seed(0, "audit", "text"))
    rows = []
    for number, unit in enumerate(judged, 1):
        for name, (kind, reference) in groups.of.items():
            reference = reference if reference in kept_names else NONE
            if name not in kept_names or reference not in kept_names or reference == name:
                continue
            me, them, n = kept_names.index(name), kept_names.index(reference), len(kept_names)
            pair = (groups.members[name], groups.members[reference])
            counts = [int((members & removed[unit]).sum()) for members in pair]
            ratio = ratio_of(counts[0], sizes[name], counts[1], sizes[reference])
            low, high = interval(drawn[:, number * n + me], drawn[:, me], drawn[:, number * n + them], drawn[:, them])
            seed = derive_seed(0, "audit", *unit, name)
            rows.append(
                _row(unit, (kind, reference.split(": ", 1)[-1]), name.split(": ", 1)[-1], (counts[0], sizes[name]),
                     (counts[1], sizes[reference]), ratio, low, high,
                     adjusted_ratio(*pair, removed[unit], sample.stratum, seed))
            )  # fmt: skip
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

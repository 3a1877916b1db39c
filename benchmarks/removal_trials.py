"""Whom other rules than `curated`'s would remove: `python -m benchmarks.removal_trials RUN`.

In: a finished run with the signals of the `context` filter (examples/curate_real.yaml). Nothing is scored again: each
rule reads the stored signals, and whether a document names a group of people (a plain word of the cue list or a
demeaning term). Out: for each rule the share removed of all, of AAE-leaning and of White-aligned documents, and the
ratio of the two, plain and at equal source and length, with 95 % bootstrap intervals. `--show N` prints N of the
documents that `curated` removes, drawn by hash, to be read by a person; with `--beside RUN` only such as it keeps in
that other run of the same corpus. Last, how many hateful rows of some labelled
sets name a group: the most that a rule about naming could find there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.systems import DATA
from classifiers.context import demeaning_entries
from classifiers.evaluate import Metric, rate
from classifiers.labelled import dotted, read_rows
from curation.bootstrap import interval, ratio_of, resampled_counts
from curation.dialect import dialect_groups, topic_shares
from curation.filters.context import ContextSettings
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher
from curation.seeding import unit_hash
from curation.strata import adjusted_ratio, strata

Bools = npt.NDArray[np.bool_]
SEED = 17
ROWS = 1500  # hateful rows read of a set
HATEFUL = (
    ("gab_hate_corpus", "label", ("toxic",)), ("implicit_hate", "labels.class", ("explicit_hate", "implicit_hate")),
    ("stormfront", "label", ("toxic",)), ("hatexplain", "labels.class", ("hatespeech",)),
)  # fmt: skip
BOUNDS = ContextSettings()
COLUMNS = ("context.max_use", "context.document_use", "dedup.exact", "dedup.near")
DEMEANING = frozenset({"slur", "hate_ideology"})


@dataclass(frozen=True)
class Found:
    """Documents of a run without its duplicates."""

    ids: list[str]
    texts: pa.ChunkedArray
    sources: npt.NDArray[np.str_]
    max_use: npt.NDArray[np.float64]
    document_use: npt.NDArray[np.float64]
    leaning: Bools
    white: Bools
    stratum: npt.NDArray[np.int64]


def load(run: Path) -> Found:
    """The run's documents with their signals and dialect groups."""
    tables, shares, counts = [], [], []
    for path in sorted((run / "documents").glob("*.parquet")):
        table = pq.read_table(path, columns=["doc_id", "text", "source"])
        signals = pq.read_table(run / "signals" / path.name, columns=["doc_id", *COLUMNS])
        if not table["doc_id"].equals(signals["doc_id"]):
            raise SystemExit(f"{path.name}: documents and signals are not in one order")
        for name in COLUMNS:
            table = table.append_column(name, signals[name])
        new = pc.and_(
            pc.equal(pc.fill_null(table["dedup.exact"], 0), 0), pc.equal(pc.fill_null(table["dedup.near"], 0), 0)
        )
        tables.append(table.filter(new))
        share, count = topic_shares(TextBatch(tables[-1]["text"].combine_chunks()))
        shares.append(share)
        counts.append(count)
    table = pa.concat_tables(tables)
    groups = dialect_groups(np.concatenate(shares), np.concatenate(counts))
    sources = np.array(table["source"].to_pylist(), dtype="U64")
    stratum = strata(
        np.unique(sources, return_inverse=True)[1], pc.utf8_length(table["text"]).to_numpy().astype(np.int64)
    )
    scores = [np.nan_to_num(table[name].to_numpy().astype(np.float64)) for name in COLUMNS[:2]]
    dense = np.unique(stratum, return_inverse=True)[1]
    return Found(table["doc_id"].to_pylist(), table["text"], sources, *scores, groups.aae_leaning, groups.wae, dense)


def rules(found: Found) -> Iterator[tuple[str, Bools]]:
    """Name → which documents a rule removes."""
    used = found.max_use >= BOUNDS.max_use
    yield "curated as shipped", used | (found.document_use >= BOUNDS.max_document_use)
    yield "used terms alone", used
    for bound in (0.7, 0.8, 0.9, 0.95):
        yield f"document bound {bound}", used | (found.document_use >= bound)
    hateful = np.flatnonzero(found.document_use >= BOUNDS.max_document_use)
    demeaning, naming = naming_rows(TextBatch(found.texts.take(pa.array(hateful)).combine_chunks()))
    for name, mask in (
        ("hateful where a group is named", naming),
        ("hateful where a demeaning term stands", demeaning),
    ):
        removed = used.copy()
        removed[hateful[mask]] = True
        yield name, removed


def naming_rows(batch: TextBatch) -> tuple[Bools, Bools]:
    """Which texts hold a demeaning term, and which name a group by one or by a plain word."""
    lexicon, cues = load_lexicon("english"), load_lexicon("cues")
    hits = Matcher(lexicon).find(batch)
    demeaning = np.zeros(len(batch), bool)
    demeaning[hits.row[demeaning_entries(lexicon.entries, DEMEANING)[hits.entry] & ~hits.guarded]] = True
    words = Matcher(cues, fold_disguises=False).find(batch)
    naming = demeaning.copy()
    naming[words.row[np.array([e.label == "identity" for e in cues.entries])[words.entry]]] = True
    return demeaning, naming


def named_shares(data: Path) -> Iterator[tuple[str, Metric]]:
    """Set → the share of its hateful rows that name a group: what the rule about naming could still find there."""
    for path, field, hateful in HATEFUL:
        rows = read_rows(data / "toxicity" / f"{path}.jsonl.zst")
        texts = [str(row["text"]) for row in rows if str(dotted(row, field)) in hateful][:ROWS]
        yield path, rate(naming_rows(TextBatch.of(texts))[1])


def ratio(found: Found, removed: Bools) -> str:
    """The plain ratio with its interval."""
    a, b = removed[found.leaning], removed[found.white]
    counts = np.array([a.sum(), (~a).sum(), b.sum(), (~b).sum()], np.float64)
    drawn = resampled_counts(counts, SEED)
    low, high = interval(drawn[:, 0], drawn[:, :2].sum(1), drawn[:, 2], drawn[:, 2:].sum(1))
    value = ratio_of(float(a.sum()), len(a), float(b.sum()), len(b))
    return "–" if value is None or low is None or high is None else f"{value:.1f} ({low:.1f}–{high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled sets")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N removed documents to read")
    parser.add_argument("--beside", type=Path, metavar="RUN", help="show what this run keeps")
    options = parser.parse_args()
    found = load(options.run)
    print(
        f"{len(found.ids):,} documents, {found.leaning.sum():,} lean to AAE, {found.white.sum():,} are White-aligned\n"
    )
    print("| rule | all removed | AAE-leaning | White-aligned | ratio | same source and length |\n" + "|---" * 6 + "|")
    for name, removed in rules(found):
        same = adjusted_ratio(found.leaning, found.white, removed, found.stratum, SEED)
        shares = [f"{100 * removed[mask].mean():.2f} %" for mask in (np.ones_like(removed), found.leaning, found.white)]
        adjusted = (
            f"{same.ratio:.1f} ({same.low:.1f}–{same.high:.1f})" if same.ratio and same.low and same.high else "–"
        )
        print(f"| {name} | {' | '.join(shares)} | {ratio(found, removed)} | {adjusted} |")
    shares = [
        f"{name} {100 * m.value:.0f} % ({100 * m.low:.0f}–{100 * m.high:.0f})" for name, m in named_shares(options.data)
    ]
    print(f"\nHateful rows that name a group: {', '.join(shares)}")
    if options.show:
        gone = np.flatnonzero(next(rules(found))[1])
        if options.beside:
            other = load(options.beside)
            kept = set(np.array(other.ids)[~next(rules(other))[1]].tolist())
            gone = np.array([at for at in gone.tolist() if found.ids[at] in kept])
            print(f"\n{len(gone):,} removed documents are kept by {options.beside}")
        for at in sorted(gone.tolist(), key=lambda k: unit_hash(found.ids[k], SEED))[: options.show]:
            text = " / ".join(found.texts[at].as_py()[:300].split("\n"))
            print(f"\n{found.sources[at]} {found.max_use[at]:.2f} {found.document_use[at]:.2f}: {text}")


if __name__ == "__main__":
    main()

"""Whom the encoder should read: documents by their highest window, or by a gate that learnt what it catches.

    python -m benchmarks.document_gate

In: every so manieth document of the corpora; every window of them is read once. The gate is a logistic layer over what
the first stage and the lexicons say of a document: its highest windows, how many are suspicious, rates of listed terms
and of words that name groups. It learns what `curated` or `toxicity` would drop if everything were read, from Reddit
and link titles (PDDL, so its weights could ship), or from the other half of all corpora (they could not). Out: the
share of such documents that each way of choosing keeps at a budget of documents. A chosen document is read whole.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.cascade_budget import CATCHES
from classifiers.cascade import holding
from classifiers.context import ContextReader, demeaning_entries
from classifiers.evaluate import auroc, rate
from classifiers.labelled import read_rows
from classifiers.logistic import fit_logistic
from classifiers.scoring import Scorer, ScoringSettings
from classifiers.stack_measure import DEMEANING
from classifiers.tokens import tokenize
from classifiers.windows import cut, row_top_mean
from curation.identity_terms import identities
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms
from curation.lexicon.entries import load_lexicon
from curation.lexicon.matcher import Matcher

F64 = npt.NDArray[np.float64]
LEARNT = ("reddit", "link_titles")
BUDGETS = (0.02, 0.03, 0.05, 0.1)
HIGHEST = 3  # windows of a document that the gate sees one by one
CHUNK = 2_000


def log_odds(p: F64) -> F64:
    q = np.clip(p, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(q / (1 - q)))


def cheap_features(texts: list[str], scorer: Scorer, reader: ContextReader, matcher: Matcher) -> tuple[F64, F64]:
    """(documents, features) without the encoder; the highest first-stage probability, 1 where a term is always read."""
    batch = TextBatch.of(texts)
    tokens = tokenize(batch)
    windows = cut(tokens, ScoringSettings().windows)
    p = scorer._cascade.first.probabilities(tokens, windows)
    hits = matcher.find(batch)
    named = demeaning_entries(reader.entries, DEMEANING)
    held = holding(hits, named[hits.entry] & ~hits.guarded, tokens, windows)
    count = np.maximum(np.diff(windows.bounds), 1)
    top = np.zeros((len(texts), HIGHEST))
    for row in range(len(texts)):
        mine = np.sort(p[windows.bounds[row] : windows.bounds[row + 1]])[::-1][:HIGHEST]
        top[row, : len(mine)] = mine
    highest = top[:, 0].copy()
    np.maximum.at(highest, windows.row[held], 1.0)
    suspicious = np.stack([np.bincount(windows.row, p >= level, len(texts)) for level in (0.1, 0.3, 0.5)], axis=1)
    found = np.column_stack(
        (
            log_odds(top), log_odds(np.nan_to_num(row_top_mean(p, windows.bounds, 0.2))), np.log1p(suspicious),
            suspicious / count[:, None], np.log(count), reader.term_rates(tokens, hits),
            np.log1p(np.bincount(hits.row, minlength=len(texts))), identities(terms(batch)).sum(axis=1),
        )
    )  # fmt: skip
    return found, highest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/corpus"))
    parser.add_argument("--step", type=int, default=12, help="every so manieth document")
    arguments = parser.parse_args()
    paths = sorted(p for p in arguments.data.glob("*.jsonl.zst") if "other_languages" not in p.name)
    rows = [(p.name.split(".")[0], str(r["text"])) for p in paths for k, r in enumerate(read_rows(p))
            if k % arguments.step == 0]  # fmt: skip
    scorer = Scorer(ScoringSettings(), {"toxicity", "context"})
    scorer._cascade = replace(scorer._cascade, low=0.0)
    lexicon = load_lexicon("english")
    reader, matcher = ContextReader(lexicon, DEMEANING), Matcher(lexicon)
    parts: list[F64] = []
    highest: list[F64] = []
    caught: dict[str, list[Any]] = {name: [] for name in CATCHES}
    for begin in range(0, len(rows), CHUNK):
        texts = [text for _, text in rows[begin : begin + CHUNK]]
        features, mine = cheap_features(texts, scorer, reader, matcher)
        parts.append(features)
        highest.append(mine)
        columns = scorer.score(pa.array(texts))
        numbers = {n: np.nan_to_num(np.asarray(c, float)) for n, c in columns.items() if pa.types.is_floating(c.type)}
        for name, judge in CATCHES.items():
            caught[name].append(judge(numbers))
    x, by_window = np.concatenate(parts), np.concatenate(highest)
    labels = {name: np.concatenate(masks) for name, masks in caught.items()}
    learnt = np.isin([source for source, _ in rows], LEARNT)
    even = np.arange(len(rows)) % 2 == 0
    for name, label in labels.items():
        shipped = gated(x, label, learnt, by_window)
        halves = np.where(even, gated(x, label, ~even, by_window), gated(x, label, even, by_window))
        show(name, "corpora it did not learn from", label, ~learnt, {"highest window": by_window, "gate": shipped})
        show(name, "all corpora", label, np.ones(len(rows), bool), {"highest window": by_window, "gate": halves})


def gated(x: F64, label: Any, learnt: Any, by_window: F64) -> F64:
    """The gate's log-odds, learnt from the documents `learnt`; always-read ones first."""
    y = label[learnt].astype(np.int64)
    weight = np.where(y == 1, 0.5 / max(1, y.sum()), 0.5 / max(1, (1 - y).sum()))
    return np.where(by_window == 1.0, 1e9, fit_logistic(x[learnt], y, weight, 2).logits(x)[:, 0])


def show(name: str, of: str, label: Any, test: Any, ways: dict[str, F64]) -> None:
    """A table: what each way of choosing keeps of the documents that the second stage alone would catch."""
    areas = ", ".join(f"{way} {auroc(s[test], label[test].astype(float)):.3f}" for way, s in ways.items())
    print(f"\n`{name}`, {of}: {label[test].sum()} of {test.sum():,} documents; AUROC {areas}\n")
    print(f"| documents read | {' | '.join(f'kept by {way}' for way in ways)} |")
    print("|---|---|---|")
    for budget in BUDGETS:
        cells = []
        for score in ways.values():
            order = np.argsort(-score[test], kind="stable")[: int(budget * test.sum())]
            kept = rate(np.isin(np.flatnonzero(label[test]), order)).plain()
            cells.append(f"{100 * kept['value']:.0f} % ({100 * kept['low']:.0f}–{100 * kept['high']:.0f})")
        print(f"| {100 * budget:.0f} % | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

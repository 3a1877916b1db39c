"""Finds evaluation items inside documents, so that a model is not trained on its own test.

An item of at least 13 words is found by the share of its 13-grams that the document contains; a shorter one only as a
whole. Words are lower-cased runs of `\\w`. Source of 13: Brown et al. 2020, "Language Models are Few-Shot Learners",
appendix C. A single common 13-gram is weak evidence (quotations, recipes, licences), hence coverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from curation.document import SPANS
from curation.filters.base import FILTERS, Bound, DocumentBatch, Filter, Signal
from curation.filters.columns import spans_column
from curation.filters.evaluation_items import matching_files, read_evaluation_texts
from curation.kernels.grams import GramIndex, Hits, find_grams, gram_hashes, gram_index
from curation.kernels.text_batch import I64, TextBatch
from curation.kernels.words import WordTable, terms
from curation.settings import Settings


class DecontaminationSettings(Settings):
    """What to look for, and how much of it makes a document contaminated."""

    files: tuple[str, ...] = Field(min_length=1)  # paths or globs of JSONL (.gz, .zst) or text files
    fields: tuple[str, ...] | None = None  # top-level JSON fields to read; null: every string
    ngram: int = Field(default=13, ge=2)  # Brown et al. 2020, appendix C; datatrove and lighteval use 12
    # Share of an item's n-grams found in the document. Measured with 19 evaluation files on 108,000 natural documents:
    # no item of 13 words or more was covered by 0.12 to 0.5; below stand quotations of the US constitution.
    min_coverage: float = Field(default=0.2, gt=0, le=1)
    min_item_words: int = Field(default=8, ge=1)  # shorter items are sayings and stock answers; not looked for

    @field_validator("files")
    @classmethod
    def _exist(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        missing = [pattern for pattern in patterns if not matching_files(pattern)]
        if missing:
            raise ValueError(f"no file there: {', '.join(missing)}")
        return patterns


@dataclass(frozen=True)
class EvaluationIndex:
    """All texts to find. Gram g occurs in `gram_texts[gram_starts[g]:gram_starts[g + 1]]`."""

    grams: GramIndex
    gram_starts: I64
    gram_texts: I64
    text_grams: I64  # distinct n-grams of each text
    items: tuple[str, ...]  # the item of each text


@lru_cache(maxsize=4)
def evaluation_index(
    files: tuple[str, ...], fields: tuple[str, ...] | None, ngram: int, min_item_words: int
) -> EvaluationIndex:
    """The n-grams of every evaluation text of at least `min_item_words` words; made once per process."""
    texts = read_evaluation_texts(files, fields)
    table = terms(TextBatch.of([text.text for text in texts]))
    sizes = np.diff(table.doc_words)
    keys, owners, lengths = [], [], []
    for n in [*range(min_item_words, ngram), ngram]:
        hashes, owner = gram_hashes(table, n)
        mine = sizes[owner] >= n if n == ngram else sizes[owner] == n
        keys.append(hashes[mine])
        owners.append(owner[mine])
        lengths.append(np.full(int(mine.sum()), n, np.int64))
    pairs = np.stack([np.concatenate(keys), np.concatenate(owners).astype(np.uint64)])
    pairs = np.unique(pairs, axis=1)
    distinct, starts = np.unique(pairs[0], return_index=True)
    owner_of = pairs[1].astype(np.int64)
    return EvaluationIndex(
        gram_index(distinct, np.concatenate(lengths)),
        np.append(starts, len(owner_of)).astype(np.int64),
        owner_of,
        np.bincount(owner_of, minlength=len(texts)).astype(np.int64),
        tuple(text.item for text in texts),
    )


class Decontamination(Filter[DecontaminationSettings]):
    name = "decontamination"
    summary = "documents that contain an evaluation item: 13-grams of local evaluation files, with a coverage"
    settings_type = DecontaminationSettings
    signals: ClassVar[tuple[Signal, ...]] = (
        Signal("coverage", "float64", "largest share of one evaluation text's n-grams found in the document"),
        Signal("item", "string", "the evaluation item with that coverage, `<file>:<id>`; null where there is none"),
        Signal("matches", "spans", "where the items that reach the coverage stand; the label is the item"),
    )
    measured_by = ("files", "fields", "ngram", "min_coverage", "min_item_words")

    def needed(self, settings: DecontaminationSettings) -> frozenset[str]:
        return frozenset({"coverage", "item", "matches"})

    def measure(self, batch: DocumentBatch, settings: DecontaminationSettings) -> dict[str, pa.Array]:
        s = settings
        index = evaluation_index(s.files, s.fields, s.ngram, s.min_item_words)
        table = terms(batch.texts)
        hits = find_grams(table, index.grams)
        coverage = np.zeros(len(batch), np.float64)
        best: list[str | None] = [None] * len(batch)
        if not len(hits.documents):
            return {
                "coverage": pa.array(coverage),
                "item": pa.array(best, pa.string()),
                "matches": pa.array([[]] * len(batch), SPANS),
            }
        documents, texts, shares = _coverages(hits, index)
        order = np.lexsort((texts, -shares, documents))  # per document the best covered text, the first of equals
        first = order[np.concatenate([[True], np.diff(documents[order]) > 0])]
        coverage[documents[first]] = shares[first]
        for document, text in zip(documents[first].tolist(), texts[first].tolist(), strict=True):
            best[document] = index.items[text]
        reached = shares >= s.min_coverage
        wanted = documents[reached] * len(index.items) + texts[reached]
        return {
            "coverage": pa.array(coverage),
            "item": pa.array(best, pa.string()),
            "matches": _matches(batch.texts, table, hits, index, np.sort(wanted)),
        }

    def bounds(self, settings: DecontaminationSettings) -> tuple[Bound, ...]:
        return (
            Bound(
                "contaminated",
                "coverage",
                "at_least",
                settings.min_coverage,
                "the document contains an evaluation item",
                spans="matches",
            ),
        )


def _expanded(hits: Hits, index: EvaluationIndex) -> tuple[I64, I64]:
    """For every pair of a hit and a text that has its gram: the hit's number, the text."""
    counts = index.gram_starts[hits.grams + 1] - index.gram_starts[hits.grams]
    which = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    return which, index.gram_texts[index.gram_starts[hits.grams[which]] + within]


def _coverages(hits: Hits, index: EvaluationIndex) -> tuple[I64, I64, npt.NDArray[np.float64]]:
    """Document, text and share of the text's distinct n-grams found there, for every pair with any."""
    which, texts = _expanded(hits, index)
    triples = np.unique(np.stack([hits.documents[which], texts, hits.grams[which]]), axis=1)
    pairs, counts = np.unique(triples[:2], axis=1, return_counts=True)
    return pairs[0], pairs[1], counts / index.text_grams[pairs[1]]


def _matches(batch: TextBatch, table: WordTable, hits: Hits, index: EvaluationIndex, wanted: I64) -> pa.Array:
    """Spans of the texts in `wanted` (document * texts + text, ascending); what touches and is of one item is one."""
    which, texts = _expanded(hits, index)
    keep = np.isin(hits.documents[which] * len(index.items) + texts, wanted)
    which, texts = which[keep], texts[keep]
    ranges: dict[tuple[int, str], list[list[int]]] = {}  # (document, item) → word ranges
    for k in np.argsort(hits.words[which], kind="stable").tolist():
        hit = which[k]
        word, stop = int(hits.words[hit]), int(hits.words[hit] + hits.lengths[hit])
        mine = ranges.setdefault((int(hits.documents[hit]), index.items[texts[k]]), [])
        if mine and word <= mine[-1][1]:
            mine[-1][1] = max(mine[-1][1], stop)
        else:
            mine.append([word, stop])
    spans = []
    for (document, item), found in sorted(ranges.items()):
        for first, stop in found:
            start = batch.offsets[document]
            at = len(batch.data[start : table.starts[first]].tobytes().decode())
            chars = len(batch.data[table.starts[first] : table.ends[stop - 1]].tobytes().decode())
            spans.append((document, at, at + chars, item))
    spans.sort()
    labels = sorted({span[3] for span in spans})
    ids = {label: number for number, label in enumerate(labels)}
    columns = np.array([(a, b, c, ids[label]) for a, b, c, label in spans], np.int64).reshape(-1, 4)
    return spans_column(len(batch), columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], labels)


FILTERS.add("decontamination", Decontamination())

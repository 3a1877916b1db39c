"""Which dialect a text leans to, by its words: a proxy for the audit, never a signal that a filter may read.

In: a `TextBatch`. Out: for each text the posterior share of four topics that Blodgett, Green and O'Connor (2016,
"Demographic Dialectal Variation in Social Media", EMNLP, arXiv:1608.08868) learnt from tweets and census data. They
validated the first and the last against linguistic features of African-American English (AAE) and call the other two
unvalidated, so only those two name a group here.

The table, `lexicon/dialect_words.tsv`, is derived from the released word counts (slanglab/twitteraae, MIT) by

    python -m curation.dialect aae_word_table.jsonl.zst

The counts were taken from tweets of 2013: on web pages and in long documents the proxy is weaker, and it never says
who wrote a text. Listed terms of abuse and their spellings are left out of the table: otherwise a document would be
counted into a group by the very word that removed it.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard
from numba import njit

from curation.kernels.text_batch import I64, TextBatch
from curation.kernels.words import hash_of, terms

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
TABLE = Path(__file__).with_name("lexicon") / "dialect_words.tsv"
TOPICS = ("aae", "hispanic", "asian", "wae")  # the order of the release; only the first and last are validated
AAE, WAE = 0, 3
# Texts of fewer known words say nothing: 10 is about one tweet, the unit the table was learnt on.
MIN_WORDS = 10
# Of a text's words, below which it is not in English: 5 % of Reddit threads know fewer than 60 %, written English pages
# at least 71 %, and the highest of seven other languages (Spanish) at most 55 %.
MIN_KNOWN = 0.6
MAX_WORDS = 1_000  # of a text, from its beginning: the posterior of a longer one no longer moves
ROUNDS = 8  # of expectation and maximisation: from 8 to 20 the largest share of 10,000 blog posts changes for 0.07 %
PRIOR = 1.0  # pseudo-count of each topic: a uniform Dirichlet
# Share of documents that count as leaning to AAE: the largest share of all but informal texts is WAE's (25 of 10,000
# blog posts and 15 of 10,000 Reddit threads had another one), so a relative group is needed beside the absolute one.
LEANING = 0.05

BUILD_WORDS = 12_000  # most frequent of the table's purely alphabetic words: 245 KB of text
SCALE = 10.0  # stored: SCALE x log2 of a word's rate in a topic over its mean rate in all four
# Spellings of abuse and profanity that no lexicon lists, in the manner of 2013's tweets.
ABUSIVE = re.compile(
    r"^(n[iey]+[gqh]+|fu+[ck]|fk|sh[iyx]+[tde]|sht|b[ix]+(t?ch|h)|bt?ch|hoe|pu+ss|d[iy]+c?k|coc?k|cu+nt|whor|slut|fag|ass|a[sz]+e?$|mf)"
)


def topic_shares(texts: TextBatch) -> tuple[F64, I64]:
    """Posterior share of each topic for each text, shape (texts, 4), and how many known words each has (0 when
    most of its words are unknown).

    Expectation-maximisation over the words of a text with a uniform prior; a text without known words has equal
    shares.
    """
    table = terms(texts)
    hashes, weights = _table()
    slot = np.searchsorted(hashes, table.hashes)
    slot = np.minimum(slot, len(hashes) - 1)
    known = hashes[slot] == table.hashes
    shares = np.empty((len(texts), len(TOPICS)), np.float64)
    counts = np.empty(len(texts), np.int64)
    _posteriors(np.where(known, slot, -1), table.doc_words, weights, shares, counts)
    words = np.minimum(np.diff(table.doc_words), MAX_WORDS)
    counts[counts < MIN_KNOWN * words] = 0
    return shares, counts


@njit(nogil=True, cache=True)
def _posteriors(slot: I64, doc_words: I64, weights: F64, shares: F64, counts: I64) -> None:
    topics = weights.shape[1]
    totals = np.empty(topics)
    for doc in range(doc_words.shape[0] - 1):
        first = doc_words[doc]
        last = min(doc_words[doc + 1], first + MAX_WORDS)
        counts[doc] = 0
        for word in range(first, last):
            counts[doc] += slot[word] >= 0
        shares[doc, :] = 1.0 / topics
        for _ in range(ROUNDS):
            totals[:] = PRIOR
            for word in range(first, last):
                if slot[word] < 0:
                    continue
                whole = 0.0
                for topic in range(topics):
                    whole += weights[slot[word], topic] * shares[doc, topic]
                for topic in range(topics):
                    totals[topic] += weights[slot[word], topic] * shares[doc, topic] / whole
            shares[doc, :] = totals / totals.sum()


@dataclass(frozen=True)
class DialectGroups:
    """Which documents of a sample count as what; arrays of bool, one entry a document."""

    aae: Bools  # AAE has the largest share: few outside social media
    aae_leaning: Bools  # among the 5 % with the surest share of AAE
    wae: Bools  # WAE has the largest share, and not AAE-leaning: the reference


def dialect_groups(shares: F64, counts: I64) -> DialectGroups:
    """Groups by topic shares, of texts with enough known words to say anything."""
    enough = counts >= MIN_WORDS
    best = shares.argmax(axis=1)
    aae = enough & (best == AAE)
    leaning = np.zeros(len(shares), bool)
    if enough.any():
        # One standard error below the share: a short text reaches a large share by chance, a long one does not.
        share = shares[:, AAE]
        surely = share - np.sqrt(share * (1 - share) / np.maximum(counts, 1))
        leaning = enough & (surely > np.quantile(surely[enough], 1 - LEANING))
    return DialectGroups(aae, leaning, enough & (best == WAE) & ~leaning)


@lru_cache(maxsize=1)
def _table() -> tuple[npt.NDArray[np.uint64], F64]:
    """Word hashes, sorted, and the rate of each word in each topic over its mean rate, shape (words, 4)."""
    hashes, weights = [], []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            word, *values = line.split("\t")
            hashes.append(hash_of(word))
            weights.append([2 ** (int(value) / SCALE) for value in values])
    found = np.array(hashes, np.uint64)
    order = np.argsort(found)
    return found[order], np.array(weights, np.float64)[order]


def build(path: Path) -> str:
    """The text of `dialect_words.tsv` from the released table (jsonl.zst: word, count, topic_counts)."""
    from curation.lexicon.entries import load_lexicon
    from curation.lexicon.matcher import Matcher

    with path.open("rb") as stream:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(stream), encoding="utf-8")
        rows = [json.loads(line) for line in lines]
    totals = np.array([row["topic_counts"] for row in rows]).sum(axis=0)
    plain = [row for row in rows if re.fullmatch("[a-z]{2,}", row["word"]) and not ABUSIVE.match(row["word"])]
    batch = TextBatch.of([row["word"] for row in plain])
    listed: set[int] = set()
    for name in ("english", "ldnoobw"):
        listed |= set(Matcher(load_lexicon(name)).find(batch).row.tolist())
    kept = [row for number, row in enumerate(plain) if number not in listed][:BUILD_WORDS]
    out = [
        "# dialect words: rates of a word in four demographic topics of tweets, relative to their mean",
        "# columns: word, then 10 x log2(rate / mean rate) for the topics aae, hispanic, asian, wae",
        "# source: slanglab/twitteraae, word counts of Blodgett, Green and O'Connor 2016; licence: MIT",
        f"# made by: python -m curation.dialect {path.name}; listed terms of abuse are left out",
    ]
    for row in sorted(kept, key=lambda row: row["word"]):
        # 0.1 of a pseudo-count, the counts' own rounding: a word never seen in a topic stays possible there.
        rates = (np.array(row["topic_counts"]) + 0.1) / totals
        values = (max(-99, round(SCALE * math.log2(rate))) for rate in rates / rates.mean())
        out.append("\t".join((row["word"], *map(str, values))))
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    TABLE.write_text(build(Path(sys.argv[1])), encoding="utf-8")

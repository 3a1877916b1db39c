"""Texts as people look at them: abuse masked, offending spans marked, long stretches left out.

In: a text and spans in code points. Out: pieces, which `inspect` prints and the report turns into HTML. Masking keeps
the number of code points, so spans fit before and after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import load_lexicon
from curation.lexicon.masking import mask_spans
from curation.lexicon.matcher import Matcher

# Categories of the lexicon that are abusive to read; the others (violence, drugs …) are ordinary words.
MASKED_CATEGORIES = frozenset({"slur", "insult", "profanity", "sexual", "blocklist"})
# Filters whose spans are what must not be repeated: listed words, demeaning terms, personal data. With the codes whose
# spans those are, "" for all: the passages of `context.hateful` are sentences, in which terms are masked one by one.
MASKED_FILTERS = {"blocklist": "", "context": "use", "pii": ""}
GAP = "…"


@dataclass(frozen=True)
class Span:
    """A stretch of a text, [start, end) in code points, and what it is marked as."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Piece:
    """A stretch to print: plain, marked with one or more labels, or a gap."""

    text: str
    labels: tuple[str, ...] = ()
    is_gap: bool = False


def reason_spans(reasons: Iterable[Mapping[str, Any]]) -> list[Span]:
    """The spans of those reasons that have one, labelled with their code."""
    return [Span(r["start"], r["end"], r["code"]) for r in reasons if r["start"] is not None]


def mention_spans(mentions: Iterable[Mapping[str, Any]]) -> list[Span]:
    """The spans of sensitive mentions, labelled with category and role."""
    return [Span(m["start"], m["end"], f"{m['category']}: {m['role']}") for m in mentions]


class Masker:
    """Masks every listed term of abuse in a text, and the spans of filters that find abuse or personal data."""

    def __init__(self, ruleset: Mapping[str, Any] | None = None, enabled: bool = True) -> None:
        """Args: ruleset: of the arm the reasons come from (as in the manifest), to know each prefix's filter."""
        self.enabled = enabled
        rules = ruleset["rules"] if ruleset else []
        self._prefixes = tuple(
            f"{rule['as']}.{MASKED_FILTERS[rule['filter']]}" for rule in rules if rule["filter"] in MASKED_FILTERS
        )

    def mask_all(self, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None = None) -> list[str]:
        """`texts` with abuse masked, each as long as before; `spans`: what reasons and mentions point at."""
        if not self.enabled or not texts:
            return list(texts)
        found: list[list[tuple[int, int]]] = [[] for _ in texts]
        batch = TextBatch.of(texts)
        for matcher in _matchers():
            hits = matcher.find(batch)
            entries = matcher.lexicon.entries
            columns = (hits.row.tolist(), hits.start.tolist(), hits.end.tolist(), hits.entry.tolist(), hits.guarded)
            for row, start, end, entry, guarded in zip(*columns, strict=True):
                if not guarded and entries[entry].category in MASKED_CATEGORIES:
                    found[row].append((start, end))
        for row, marked in enumerate(spans or ()):
            found[row] += [(s.start, s.end) for s in marked if self._hides(s.label)]
        return [mask_spans(text, where) for text, where in zip(texts, found, strict=True)]

    def mask(self, text: str) -> str:
        return self.mask_all([text])[0]

    def _hides(self, label: str) -> bool:
        """Whether a span of this label is masked whatever the lexicon says; whole toxic windows are not."""
        category, is_mention, _ = label.partition(": ")
        return category in MASKED_CATEGORIES if is_mention else label.startswith(self._prefixes)


@lru_cache(maxsize=1)
def _matchers() -> tuple[Matcher, Matcher]:
    """The lexicon and the English blocklist, compiled once: that takes a second."""
    listed = load_lexicon("ldnoobw").only(["en"])
    return Matcher(load_lexicon("english")), Matcher(listed, fold_disguises=False)


def excerpt(text: str, spans: Sequence[Span], around: int = 80, longest: int = 800) -> list[Piece]:
    """The marked spans of a text with `around` code points on each side, gaps where text is left out.

    Without spans: the beginning. At most about `longest` code points of text are shown.
    """
    inside = sorted((s for s in spans if 0 <= s.start < s.end <= len(text)), key=lambda s: (s.start, s.end, s.label))
    if not inside:
        shown = text[: _at_word(text, 4 * around, 0)]
        return [Piece(shown)] + ([Piece(GAP, is_gap=True)] if len(shown) < len(text) else [])
    pieces: list[Piece] = []
    position, left = 0, longest
    for begin, end in _windows(text, inside, around):
        if left <= 0:
            break
        end = min(end, begin + left)
        left -= end - begin
        if begin > position:
            pieces.append(Piece(GAP, is_gap=True))
        pieces += _cut(text, begin, end, [s for s in inside if s.start < end and s.end > begin])
        position = end
    if position < len(text):
        pieces.append(Piece(GAP, is_gap=True))
    return pieces


def _windows(text: str, spans: Sequence[Span], around: int) -> list[tuple[int, int]]:
    """Stretches that hold every span and its surroundings, merged where they touch."""
    windows: list[tuple[int, int]] = []
    for span in spans:
        begin, end = _at_word(text, span.start - around, span.start), _at_word(text, span.end + around, span.end)
        if windows and begin <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((begin, end))
    return windows


def _at_word(text: str, wanted: int, limit: int) -> int:
    """`wanted` moved towards `limit` until no word is cut; as it is when the next 20 code points have no space."""
    if wanted <= 0 or wanted >= len(text):
        return min(max(wanted, 0), len(text))
    step = 1 if limit > wanted else -1
    for position in range(wanted, limit, step):
        if abs(position - wanted) > 20:
            break
        if text[position - 1 if step > 0 else position].isspace():
            return position
    return wanted


def _cut(text: str, begin: int, end: int, spans: Sequence[Span]) -> list[Piece]:
    """`text[begin:end]` cut at every edge of a span; a stretch under several spans carries all their labels."""
    edges = sorted({begin, end, *(min(max(edge, begin), end) for s in spans for edge in (s.start, s.end))})
    pieces = []
    for left, right in pairwise(edges):
        labels = tuple(dict.fromkeys(s.label for s in spans if s.start < right and s.end > left))
        pieces.append(Piece(text[left:right], labels))
    return pieces

"""Use or mention: a role for every sensitive term, and whether the document as a whole speaks hatefully.

1. Cues (attribution, meta-language, definition, disapproval, hostility, address …) are found by their own lexicon.
2. A linear model over named features gives P(use) of every mention; a second one says which kind of mention it is.
3. Guard phrases ("Maine coon") settle homonyms; between the abstain bounds the role is `uncertain`.
4. A third linear model reads the document: toxicity in and outside quoting frames, answers, cues, used terms.
The models are JSON tables fitted by `headwater fit`; the policy that turns roles into verdicts is the ruleset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from classifiers import context_features as features
from classifiers.base import load_card, resource
from classifiers.encoder import UNREAD, Reading
from classifiers.roles import COUNTER, HATE, MENTION_ROLES
from classifiers.spans import named
from classifiers.tokens import Tokens
from classifiers.windows import Windows, row_top_mean, token_at
from curation.kernels.text_batch import TextBatch
from curation.lexicon.entries import Entry, Lexicon, load_lexicon
from curation.lexicon.matcher import Hits, Matcher

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ROLE_NAMES = ("use", *MENTION_ROLES, "uncertain")
USE, HOMONYM, UNCERTAIN = 0, 5, 6
QUOTED = ("in_quotes", "tight_quotes")
FRAMED = ("near_meta", "near_definition", "dictionary_line", "attributed_before")
STANCES = ("hostile", "opposed", "neutral")
LOW_NAMES = tuple(f"low_{name}" for name in features.MENTION_NAMES)  # cues that speak by being smaller than usual
# Categories whose plain speech is neither praise nor abuse of a group: a mention of these is `use` unless cues say
# otherwise, and never counts for max_use.
GUARD_REACH = 12  # tokens each side in which a guard word speaks for the homonym
QUIET = 0.15  # documents whose worst windows score lower and that hold no demeaning term are not read any further
TOP_SHARE = 0.2
CONTEXT_FLOOR = 0.3
HATEFUL_FROM = 0.5  # probability of hate from which a passage is shown as the place of a document's verdict


@dataclass(frozen=True)
class Linear:
    """softmax or sigmoid of (x − mean) / scale · weight + bias."""

    mean: F64
    scale: F64
    weight: F64  # (features, outputs)
    bias: F64

    def logits(self, x: F64) -> F64:
        return ((x - self.mean) / self.scale) @ self.weight + self.bias

    @classmethod
    def load(cls, table: dict[str, Any], names: tuple[str, ...]) -> Linear:
        """The model of a card; its feature names must be exactly ours, in our order."""
        if tuple(table["features"]) != names:
            raise ValueError("the card was fitted on other features")
        return cls(*(np.asarray(table[key], np.float64) for key in ("mean", "scale", "weight", "bias")))


@dataclass(frozen=True)
class Mentions:
    """Judged mentions of a batch, sorted by row, and the per-document columns."""

    hits: Hits
    columns: dict[str, pa.Array]
    is_use: Mask
    demeaning: Mask
    use: F64
    max_use: F64
    document_use: F64
    hateful: Mask  # per window: whether it speaks hatefully by itself, its mere mentions taken off


class ContextReader:
    """Texts with hits → features. Knows the lexicon and the cues, no weights."""

    def __init__(self, lexicon: Lexicon, demeaning: frozenset[str]) -> None:
        self.entries = lexicon.entries
        cues = load_lexicon("cues")
        self.cue_resource = cues.resource()
        guards = tuple(
            Entry(term=word, category="cue", label=f"guard:{index}")
            for index, entry in enumerate(lexicon.entries)
            for word in entry.guard_words
        )
        merged, self._guarded_by = _merge_guards(guards)
        self._bits = np.array([1 << features.CUES.index(e.label) for e in cues.entries], np.int64)
        self._cues = Matcher(cues, fold_disguises=False)
        self._guards = Matcher(Lexicon("guards", "", "", merged, "", cues.path), fold_disguises=False)
        self._severity = np.array([e.severity for e in self.entries], np.float64)
        order = {name: index for index, name in enumerate(features.CATEGORIES)}
        self._category = np.array([order.get(e.category, -1) for e in self.entries], np.int64)
        self._profane = [order["profanity"], order["sexual"]]
        self._insulting = [order["insult"]]
        self._demeaning = demeaning_entries(self.entries, demeaning)
        self._in_group = np.array([e.in_group for e in self.entries], bool)

    def is_demeaning(self, hits: Hits) -> Mask:
        return self._demeaning[hits.entry] & ~hits.guarded

    def is_in_group(self, hits: Hits) -> Mask:
        """Hits of terms that the group they target also uses of itself."""
        return np.asarray(self._in_group[hits.entry])

    def category_demeans(self, hits: Hits) -> Mask:
        """Hits of a demeaning category, homonyms by guard phrase included."""
        return np.asarray(self._demeaning[hits.entry])

    def category(self, hits: Hits) -> npt.NDArray[np.int64]:
        """Index into `context_features.CATEGORIES` of every hit's term; -1 for others."""
        return np.asarray(self._category[hits.entry])

    def term_rates(self, tokens: Tokens, hits: Hits) -> F64:
        """Profanities and insults per 20 tokens of each document, shape (rows, 2), capped at 3."""
        size = np.maximum(np.diff(tokens.bounds), 20)
        rates = [
            np.bincount(hits.row[np.isin(self._category[hits.entry], codes) & ~hits.guarded], minlength=len(size))
            for codes in (self._profane, self._insulting)
        ]
        return np.minimum(20.0 * np.stack(rates, axis=1) / size[:, None], 3.0)

    def mark_cues(
        self, batch: TextBatch, tokens: Tokens, rows: npt.NDArray[np.int64], bits: npt.NDArray[np.int64]
    ) -> None:
        """Set the class bit of every cue found in `rows` on its first token, in place."""
        every = len(rows) == len(batch)
        found = self._cues.find(batch if every else TextBatch(batch.array.take(pa.array(rows))))
        if len(found):
            at = token_at(tokens, rows[found.row].astype(np.int32), found.start)
            np.bitwise_or.at(bits, at, self._bits[found.entry])

    def mention_matrix(
        self,
        batch: TextBatch,
        tokens: Tokens,
        windows: Windows,
        toxicity: F64,
        reading: Reading,
        hits: Hits,
        cues: Any,
        rates: F64,
    ) -> F64:
        """Features of the hits, shape (len(hits), len(MENTION_NAMES))."""
        if not len(hits):
            return np.zeros((0, len(features.MENTION_NAMES)))
        token = token_at(tokens, hits.row, hits.start)
        token_end = token_at(tokens, hits.row, hits.end - 1) + 1
        window = np.searchsorted(windows.first, token, side="right") - 1
        top = np.nan_to_num(row_top_mean(toxicity, windows.bounds, TOP_SHARE))
        shallow = np.asarray(
            features.mention_features(
                tokens.bounds, windows.first, windows.last, toxicity, features.token_kinds(tokens.data, tokens.offsets),
                cues, rates, top, hits.row, token, token_end, window, self._dictionary_line(batch, hits),
                self._severity[hits.entry], self._category[hits.entry], hits.folded,
                self._guard_words(batch, tokens, hits, token), self.is_demeaning(hits),
            )
        )  # fmt: skip
        return np.hstack((shallow, features.read_mention_columns(reading, windows, window)))

    def _dictionary_line(self, batch: TextBatch, hits: Hits) -> F64:
        """1 where the term stands at the head of a line and a colon, dash or bracket follows: `term: gloss`."""
        found = np.zeros(len(hits))
        texts: dict[int, str] = {}
        for m, (row, start, end) in enumerate(
            zip(hits.row.tolist(), hits.start.tolist(), hits.end.tolist(), strict=True)
        ):
            text = texts.get(row)
            if text is None:
                text = texts[row] = batch[row]
            tail = text[end : end + 3].lstrip()
            found[m] = (start == 0 or text[start - 1] == "\n") and tail[:1] in {":", "(", "—", "–", "="}
        return found

    def _guard_words(self, batch: TextBatch, tokens: Tokens, hits: Hits, token: Any) -> npt.NDArray[np.int64]:
        """How many guard words of its own entry stand within GUARD_REACH tokens of each mention."""
        count = np.zeros(len(hits), np.int64)
        found = self._guards.find(batch)
        if not len(found):
            return count
        place = token_at(tokens, found.row, found.start)
        near_low = np.searchsorted(place, token - GUARD_REACH)
        near_high = np.searchsorted(place, token + GUARD_REACH, side="right")
        for m in np.flatnonzero(near_high > near_low).tolist():
            entry, row = int(hits.entry[m]), int(hits.row[m])
            for k in range(near_low[m], near_high[m]):
                count[m] += int(found.row[k]) == row and entry in self._guarded_by[int(found.entry[k])]
        return count


def _merge_guards(guards: tuple[Entry, ...]) -> tuple[tuple[Entry, ...], list[frozenset[int]]]:
    """One entry per guard word, and the lexicon entries that each one guards."""
    owners: dict[str, set[int]] = {}
    for guard in guards:
        owners.setdefault(guard.term, set()).add(int(guard.label.removeprefix("guard:")))
    words = sorted(owners)
    return tuple(Entry(term=word, category="cue") for word in words), [frozenset(owners[word]) for word in words]


def demeaning_entries(entries: Sequence[Entry], categories: frozenset[str]) -> Mask:
    """Which entries demean whom they name: of these categories, and not of severity 0 (`gypsy`, `redneck`)."""
    return np.array([e.category in categories and e.severity > 0 for e in entries], bool)


def sigmoid(x: F64) -> F64:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))


class ContextModel:
    """The fitted roles: a reader and three linear models from one JSON card."""

    def __init__(self, path: Path, reader: ContextReader) -> None:
        """Raises ConfigError: the card cannot be read or names other weights."""
        card = load_card(path)
        self.resource = resource("context", card, path)  # the manifest's row
        self._reader = reader
        self._use = Linear.load(card["use"], features.MENTION_NAMES)
        self._kind = Linear.load(card["kind"], features.MENTION_NAMES)
        self._document = Linear.load(card["document"], features.DOCUMENT_NAMES)
        self._abstain = (float(card["abstain"][0]), float(card["abstain"][1]))

    def judge(
        self, batch: TextBatch, tokens: Tokens, windows: Windows, toxicity: F64, reading: Reading, hits: Hits
    ) -> Mentions:
        """Roles of all hits; `max_use` and `document_use` of all documents. `toxicity` is per window, calibrated.

        A document of which the encoder read no window has nothing that speaks hatefully: `document_use` is 0.
        """
        reader = self._reader
        cues, rates, _ = read_cues(reader, batch, tokens, windows, toxicity, hits)
        matrix = reader.mention_matrix(batch, tokens, windows, toxicity, reading, hits, cues, rates)
        use = np.where(hits.guarded, 0.0, sigmoid(self._use.logits(matrix)[:, 0]))
        demeaning = reader.is_demeaning(hits)
        role, score = self._roles(matrix, use, hits.guarded, demeaning)
        max_use = np.zeros(len(batch))
        # What the group also calls itself counts only as far as its passage attacks: else one dialect pays for it.
        attack = sigmoid(matrix[:, features.MENTION_NAMES.index("window_hate")])
        counted = np.where(reader.is_in_group(hits), np.minimum(use, attack), use)
        np.maximum.at(max_use, hits.row[demeaning], counted[demeaning])
        read, kept = in_context(tokens, windows, toxicity, hits, use, reader.category_demeans(hits))
        document = document_matrix(
            tokens, windows, read, kept, reading, cues, rates, hits, use, demeaning, reader.term_rates(tokens, hits)
        )
        seen = np.bincount(windows.row[reading.asked], minlength=len(batch)) > 0
        document_use = np.where(seen, sigmoid(self._document.logits(document)[:, 0]), 0.0)
        columns = self._columns(hits, matrix, role, score)
        hateful = reading.asked & (sigmoid(reading.text[:, HATE]) * kept >= HATEFUL_FROM)
        return Mentions(hits, columns, role == USE, demeaning, use, max_use, document_use, hateful)

    def _roles(self, matrix: F64, use: F64, guarded: Mask, demeaning: Mask) -> tuple[npt.NDArray[np.int64], F64]:
        """Role index into ROLE_NAMES and its probability (of use, where the role is `uncertain`)."""
        logits = self._kind.logits(matrix)
        kinds = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(matrix) else logits
        kinds = kinds / np.maximum(kinds.sum(axis=1, keepdims=True), 1e-12)
        best = kinds.argmax(axis=1) if len(matrix) else np.zeros(0, np.int64)
        kind_score = kinds[np.arange(len(best)), best] if len(matrix) else np.zeros(0)
        low, high = self._abstain
        role = np.where(use >= high, USE, np.where(use < low, best + 1, UNCERTAIN))
        score = np.where(use >= low, use, (1 - use) * kind_score)
        # Profanity, sex, drugs and violence are named in plain speech all the time: a mention only where a cue says so.
        plain = ~demeaning & ~guarded & ~_any_feature(matrix, QUOTED + FRAMED)
        role = np.where(plain, USE, role)
        score = np.where(plain, np.maximum(use, 0.5), score)
        return np.where(guarded, HOMONYM, role), np.where(guarded, 1.0, score)

    def _columns(self, hits: Hits, matrix: F64, role: npt.NDArray[np.int64], score: F64) -> dict[str, pa.Array]:
        entries = self._reader.entries
        # The cue is the feature that pushed hardest towards the role: up for use, down for every kind of mention.
        push = (matrix - self._use.mean) / self._use.scale * self._use.weight[:, 0]
        towards = np.where((role == USE)[:, None], push, -push)
        cue = towards.argmax(axis=1) if len(matrix) else np.zeros(0, np.int64)
        # A feature may have spoken by being small: little hate in the passage is a cue for a mention.
        small = matrix[np.arange(len(cue)), cue] < self._use.mean[cue]
        cue = np.where(hits.guarded, 2 * len(features.MENTION_NAMES), cue + small * len(features.MENTION_NAMES))
        return {
            "start": pa.array(hits.start),
            "end": pa.array(hits.end),
            "term": named(hits.entry, [e.term for e in entries]),
            "category": named(hits.entry, [e.category for e in entries]),
            "target": named(hits.entry, [e.target for e in entries]),
            "role": named(role, ROLE_NAMES),
            "score": pa.array(score.astype(np.float32)),
            "cue": named(cue, (*features.MENTION_NAMES, *LOW_NAMES, "guard_phrase")),
            "quoted": pa.array(_any_feature(matrix, QUOTED)),
            "framed": pa.array(_any_feature(matrix, FRAMED)),
            "stance": _stance(matrix),
        }


def _any_feature(matrix: F64, names: tuple[str, ...]) -> Mask:
    """Whether any of the named features of a mention is above 0."""
    columns = [features.MENTION_NAMES.index(name) for name in names]
    return np.asarray((matrix[:, columns] > 0).any(axis=1))


def _stance(matrix: F64) -> pa.Array:
    """What a mention's window does: attack a group, speak against that, or neither; null where it was not read."""
    hate, counter = (matrix[:, features.MENTION_NAMES.index(n)] for n in ("window_hate", "window_counter_speech"))
    unread = (hate == UNREAD[HATE]) & (counter == UNREAD[COUNTER])
    stance = np.where((counter > 0) & (counter >= hate), 1, np.where(hate > 0, 0, 2))
    return pa.array(np.array(STANCES)[stance], pa.string(), mask=unread)


def read_cues(
    reader: ContextReader, batch: TextBatch, tokens: Tokens, windows: Windows, toxicity: F64, hits: Hits
) -> tuple[npt.NDArray[np.int64], F64, F64]:
    """Cue bits by token, cue rates and top toxicity by document; only documents that need a reading are searched."""
    top = np.nan_to_num(row_top_mean(toxicity, windows.bounds, TOP_SHARE))
    wanted = top >= QUIET
    wanted[hits.row] = True
    rows = np.flatnonzero(wanted)
    cues = np.zeros(len(tokens.start), np.int64)
    if len(rows):
        reader.mark_cues(batch, tokens, rows, cues)
    return cues, np.asarray(features.document_rates(tokens.bounds, cues)), top


def in_context(
    tokens: Tokens, windows: Windows, toxicity: F64, hits: Hits, use: F64, demeaning: Mask
) -> tuple[F64, F64]:
    """Window toxicity after reading its terms, and the share of it (and of hate) that each window keeps.

    A window keeps CONTEXT_FLOOR of its toxicity when every demeaning term in it is surely mentioned or a homonym, and
    all of it when one is surely used: the first stage scores the word, not what is done with it. `demeaning` here
    counts guarded hits too.
    """
    highest = np.full(len(windows), -1.0)
    if len(hits):
        window = np.searchsorted(windows.first, token_at(tokens, hits.row, hits.start), side="right") - 1
        np.maximum.at(highest, window[demeaning], use[demeaning])
    scale = np.where(highest < 0, 1.0, CONTEXT_FLOOR + (1 - CONTEXT_FLOOR) * highest)
    return toxicity * scale, scale


def document_matrix(
    tokens: Tokens,
    windows: Windows,
    toxicity: F64,
    kept: F64,
    reading: Reading,
    cues: Any,
    rates: F64,
    hits: Hits,
    use: F64,
    demeaning: Mask,
    term_rates: F64,
) -> F64:
    """Features of all documents, shape (rows, len(DOCUMENT_NAMES)); `toxicity`, `kept` as `in_context` gives them."""
    top = np.nan_to_num(row_top_mean(toxicity, windows.bounds, TOP_SHARE))
    half = np.nan_to_num(row_top_mean(toxicity, windows.bounds, 0.5))
    matrix = np.asarray(
        features.document_features(
            tokens.bounds, windows.bounds, windows.first, windows.last, toxicity,
            features.token_kinds(tokens.data, tokens.offsets), cues, rates, top, half, hits.row, use, demeaning,
        )
    )  # fmt: skip
    terms = np.searchsorted(windows.first, token_at(tokens, hits.row, hits.start), side="right") - 1
    group = features.names_group(windows, cues, terms[demeaning])
    read = features.read_document_columns(reading, windows, windows.last - windows.first, kept, group)
    return np.column_stack((matrix, term_rates, read))

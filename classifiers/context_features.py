"""What the context model looks at: features of every mention and of every document, by one compiled pass each.

In: tokens, windows with their toxicity, cues by token, mentions. Out: float matrices whose columns are `MENTION_NAMES`
and `DOCUMENT_NAMES`. Every feature has a name, so that a decision can be traced to the cue that carried it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from classifiers.encoder import UNREAD, Reading
from classifiers.roles import COUNTER, HATE, TOXIC
from classifiers.windows import Windows, row_top_mean

F64 = npt.NDArray[np.float64]

CUES = (
    "attribution", "meta", "definition", "counter", "academic", "hostile",
    "second", "ingroup", "identity", "disclaimer", "negation",
)  # fmt: skip
CATEGORIES = ("slur", "insult", "profanity", "sexual", "violence", "hate_ideology", "self_harm", "drugs")
NEAR = 7  # tokens each side that count as near: a clause
WIDE = 40  # tokens before a mention in which an attribution still governs it: about two sentences

SHAPE_NAMES = (
    "severity", "disguised", "guard_words", "in_quotes", "tight_quotes", "dictionary_line", "window_toxicity",
    "before_toxicity", "after_toxicity", "document_toxicity", "other_terms_near", "other_terms_window",
    "exclamations", "attributed_before", "window_length", "opens_window", "question",
)  # fmt: skip
# What the encoder reads: log-probabilities of the mention's role, logits of its window and of the windows beside it.
READ_MENTION = (
    "read_use", "read_quotation", "read_explanation", "read_counter_speech", "read_reclaimed", "read_homonym",
    "read_use_logit", "window_toxic", "window_hate", "window_counter_speech", "next_hate", "next_counter",
    "before_hate", "before_counter",
)  # fmt: skip
READ_DOCUMENT = (
    "hate_top", "hate_highest", "toxic_top", "counter_top", "counter_highest", "hate_unanswered", "hate_share",
    "last_hate", "read_share", "group_hate_top", "group_hate_highest",
)  # fmt: skip
MENTION_NAMES = (
    *(f"near_{cue}" for cue in CUES),
    *(f"window_{cue}" for cue in CUES),
    *(f"document_{cue}" for cue in CUES),
    *SHAPE_NAMES,
    *(f"category_{category}" for category in CATEGORIES),
    *READ_MENTION,
)
DOCUMENT_SHAPE = (
    "top_toxicity", "mean_toxicity", "toxic_share", "unframed_toxicity", "last_toxicity", "framed_share",
    "quote_rate", "term_rate", "max_use", "mean_use", "windows", "short", "half_toxicity", "answered_share",
)  # fmt: skip
# Profanity is not hate: its rate lets the model discount what the first stage makes of it.
RATE_NAMES = ("profanity_rate", "insult_rate")
DOCUMENT_NAMES = (*(f"document_{cue}" for cue in CUES), *DOCUMENT_SHAPE, *RATE_NAMES, *READ_DOCUMENT)
N_CUES, N_SHAPE = len(CUES), len(SHAPE_NAMES)
QUOTE, BANG, QUESTION = 1, 2, 3


@njit(nogil=True, cache=True)
def token_kinds(data, offsets):  # type: ignore[no-untyped-def]
    """QUOTE, BANG or QUESTION for the tokens that are such a sign, 0 for the others."""
    kinds = np.zeros(len(offsets) - 1, np.uint8)
    for k in range(len(kinds)):
        if offsets[k + 1] - offsets[k] == 1:
            byte = data[offsets[k]]
            kinds[k] = QUOTE if byte == 34 else BANG if byte == 33 else QUESTION if byte == 63 else 0
    return kinds


@njit(nogil=True, cache=True)
def document_rates(bounds, cues):  # type: ignore[no-untyped-def]
    """Cues per token and class, shape (rows, N_CUES), times 20: about the count in a sentence, capped at 3."""
    rates = np.zeros((len(bounds) - 1, N_CUES))
    for row in range(len(rates)):
        for k in range(bounds[row], bounds[row + 1]):
            mask = cues[k]
            if mask:
                for cue in range(N_CUES):
                    rates[row, cue] += (mask >> cue) & 1
        size = max(bounds[row + 1] - bounds[row], 20)
        for cue in range(N_CUES):
            rates[row, cue] = min(20 * rates[row, cue] / size, 3.0)
    return rates


@njit(nogil=True, cache=True)
def mention_features(  # type: ignore[no-untyped-def]
    bounds, first, last, toxicity, kinds, cues, rates, document_toxicity, rows, token, token_end, window, dictionary,
    severity, category, disguised, guards, demeaning,
):  # fmt: skip
    """Features of every mention but READ_MENTION, one row each; mentions are sorted by row and place."""
    out = np.zeros((len(rows), 3 * N_CUES + N_SHAPE + 8))
    shape = 3 * N_CUES
    for m in range(len(rows)):
        row, at, stop, w = rows[m], token[m], token_end[m], window[m]
        low, high = max(at - NEAR, bounds[row]), min(stop + NEAR, bounds[row + 1])
        quotes_before = quotes_after = 0
        for k in range(min(low, first[w]), max(high, last[w])):
            near, inside = low <= k < high, first[w] <= k < last[w]
            own = at <= k < stop
            mask = cues[k]
            if mask and not own:
                for cue in range(N_CUES):
                    bit = (mask >> cue) & 1
                    out[m, cue] += bit and near
                    out[m, N_CUES + cue] += bit and inside
            if inside:
                quotes_before += kinds[k] == QUOTE and k < at
                quotes_after += kinds[k] == QUOTE and k >= stop
                out[m, shape + 12] += kinds[k] == BANG
                out[m, shape + 16] += kinds[k] == QUESTION
        for cue in range(N_CUES):
            out[m, cue] = min(out[m, cue], 3.0)
            out[m, N_CUES + cue] = min(out[m, N_CUES + cue], 4.0)
            out[m, 2 * N_CUES + cue] = rates[row, cue]
        for k in range(max(at - WIDE, bounds[row]), at):
            out[m, shape + 13] = max(out[m, shape + 13], cues[k] & 1)  # the attribution cue is bit 0
        others = others_window = 0
        for step in (-1, 1):
            other = m + step
            while 0 <= other < len(rows) and rows[other] == row and first[w] <= token[other] < last[w]:
                others_window += demeaning[other]
                others += demeaning[other] and abs(token[other] - at) <= NEAR
                other += step
        out[m, shape + 0] = severity[m]
        out[m, shape + 1] = disguised[m]
        out[m, shape + 2] = min(guards[m], 3)
        out[m, shape + 3] = quotes_before % 2 == 1 and quotes_after > 0
        tight = at > bounds[row] and stop < bounds[row + 1] and kinds[at - 1] == QUOTE and kinds[stop] == QUOTE
        out[m, shape + 4] = tight
        out[m, shape + 5] = dictionary[m]
        out[m, shape + 6] = toxicity[w]
        out[m, shape + 7] = toxicity[w - 1] if w > 0 and first[w] > bounds[row] else 0.0
        out[m, shape + 8] = toxicity[w + 1] if last[w] < bounds[row + 1] else 0.0
        out[m, shape + 9] = document_toxicity[row]
        out[m, shape + 10] = min(others, 3)
        out[m, shape + 11] = min(others_window, 5)
        out[m, shape + 12] = min(out[m, shape + 12], 3.0)
        out[m, shape + 14] = np.log1p(last[w] - first[w]) / 4
        out[m, shape + 15] = at == first[w]
        out[m, shape + 16] = min(out[m, shape + 16], 2.0)
        if category[m] >= 0:
            out[m, shape + N_SHAPE + category[m]] = 1.0
    return out


@njit(nogil=True, cache=True)
def document_features(  # type: ignore[no-untyped-def]
    bounds, window_bounds, first, last, toxicity, kinds, cues, rates, top, half, rows, use, demeaning
):
    """Features of every document, shape (rows, N_CUES + len(DOCUMENT_SHAPE))."""
    size = len(bounds) - 1
    out = np.zeros((size, N_CUES + 14))
    m = 0
    for row in range(size):
        tokens = max(bounds[row + 1] - bounds[row], 1)
        a, b = window_bounds[row], window_bounds[row + 1]
        framed = quotes = loud = answered = followed = 0
        mean = share = unframed = weight = 0.0
        open_quote = False
        for w in range(a, b):
            length = last[w] - first[w]
            has_frame = False
            speaks_against = False
            in_quote = 0
            for k in range(first[w], last[w]):
                if kinds[k] == QUOTE:
                    quotes += 1
                    open_quote = not open_quote
                in_quote += open_quote
                has_frame = has_frame or (cues[k] & 3) != 0  # attribution or meta
                speaks_against = speaks_against or (cues[k] & 8) != 0
            if last[w] < bounds[row + 1] and open_quote and length > 30:
                open_quote = False  # an unbalanced sign must not quote the rest of the document
            framed_here = has_frame or in_quote * 2 > length
            framed += framed_here
            mean += toxicity[w] * length
            share += (toxicity[w] >= 0.5) * length
            if not framed_here:
                unframed += toxicity[w] * length
                weight += length
            if toxicity[w] >= 0.4:
                loud += 1
                if w + 1 < b:
                    followed += 1
                    answered += toxicity[w + 1] < 0.4 and toxicity[w + 1] < toxicity[w] - 0.2
        terms = 0
        highest = total = 0.0
        while m < len(rows) and rows[m] == row:
            if demeaning[m]:
                terms += 1
                total += use[m]
                highest = max(highest, use[m])
            m += 1
        for cue in range(N_CUES):
            out[row, cue] = rates[row, cue]
        windows = max(b - a, 1)
        out[row, N_CUES + 0] = top[row]
        out[row, N_CUES + 1] = mean / tokens
        out[row, N_CUES + 2] = share / tokens
        out[row, N_CUES + 3] = unframed / weight if weight > 0 else 0.0
        out[row, N_CUES + 4] = toxicity[b - 1] if b > a else 0.0
        out[row, N_CUES + 5] = framed / windows
        out[row, N_CUES + 6] = min(20.0 * quotes / tokens, 3.0)
        out[row, N_CUES + 7] = min(20.0 * terms / tokens, 3.0)
        out[row, N_CUES + 8] = highest
        out[row, N_CUES + 9] = total / max(terms, 1)
        out[row, N_CUES + 10] = np.log1p(windows) / 4
        out[row, N_CUES + 11] = tokens < 30
        out[row, N_CUES + 12] = half[row]
        out[row, N_CUES + 13] = answered / max(followed, 1)
    return out


def read_mention_columns(reading: Reading, windows: Windows, window: npt.NDArray[np.int64]) -> F64:
    """READ_MENTION of the mentions that stand in `window` (n,); a neighbour of another document counts as unread."""
    role = np.maximum(reading.role, -8.0)
    rest = np.log(np.maximum(-np.expm1(np.minimum(reading.role[:, 0], -1e-9)), 1e-9))
    columns = [role, np.clip(reading.role[:, 0] - rest, -8, 8)[:, None], reading.text[window]]
    for step in (1, -1):
        beside = np.clip(window + step, 0, max(len(windows) - 1, 0))
        same = (beside != window) & (windows.row[beside] == windows.row[window])
        text = np.where(same[:, None], reading.text[beside], UNREAD[None, :])
        columns.append(text[:, [HATE, COUNTER]])
    return np.hstack(columns)


def read_document_columns(
    reading: Reading, windows: Windows, sizes: npt.NDArray[np.int64], kept: F64, names_group: npt.NDArray[np.bool_]
) -> F64:
    """READ_DOCUMENT of every document; `sizes` are the tokens of each window, `kept` the share of its hate that stays
    when its terms turn out to be mentioned, `names_group` whether it names a group of people or a term for one.

    Rudeness reads like hate until one asks whom it is about: `group_hate` counts the windows that say so.
    """
    p = 1.0 / (1.0 + np.exp(-reading.text))
    p[:, HATE] *= kept
    bounds = windows.bounds
    aimed = p[:, HATE] * names_group
    wanted = (
        (p[:, HATE], 0.2), (p[:, HATE], 1e-9), (p[:, TOXIC], 0.2), (p[:, COUNTER], 0.2), (p[:, COUNTER], 1e-9),
        (aimed, 0.2), (aimed, 1e-9),
    )  # fmt: skip
    tops = [np.nan_to_num(row_top_mean(value, bounds, share)) for value, share in wanted]
    rest = np.asarray(_unanswered(bounds, p[:, HATE], p[:, COUNTER], sizes, reading.asked))
    return np.column_stack((*tops[:5], rest, *tops[5:]))


def names_group(
    windows: Windows, cues: npt.NDArray[np.int64], window_of_term: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which windows hold an identity cue or, by `window_of_term`, a demeaning term."""
    identity = np.r_[0, np.cumsum((cues >> CUES.index("identity")) & 1)]
    found = identity[windows.last] > identity[windows.first]
    found[window_of_term] = True
    return np.asarray(found)


@njit(nogil=True, cache=True)
def _unanswered(bounds, hate, counter, sizes, asked):  # type: ignore[no-untyped-def]
    """Hate that no counter-speech follows within two windows, share of hateful text, last window's hate, share read."""
    out = np.zeros((len(bounds) - 1, 4))
    for row in range(len(bounds) - 1):
        a, b = bounds[row], bounds[row + 1]
        weight = total = length = share = read = 0.0
        for w in range(a, b):
            answer = 0.0
            for k in range(w + 1, min(w + 3, b)):
                answer = max(answer, counter[k])
            total += hate[w] * hate[w] * (1.0 - answer)
            weight += hate[w]
            length += sizes[w]
            share += sizes[w] * (hate[w] >= 0.5)
            read += asked[w]
        if b > a:
            out[row, 0] = total / max(weight, 1e-9)
            out[row, 1] = share / max(length, 1.0)
            out[row, 2] = hate[b - 1]
            out[row, 3] = read / (b - a)
    return out

"""How rich a text is: pure functions of words. No model."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"\w+(?:['’]\w+)*")
FACTOR_SIZE = 0.72  # McCarthy & Jarvis 2010: the type-token ratio at which a factor of MTLD is complete
LENGTH = 100  # words: every text is cut to it before anything is compared, since all of these depend on length


def words(text: str) -> list[str]:
    """Lower-case words."""
    return WORD.findall(text.lower())


def expected_distinct(texts: Sequence[Sequence[str]], n: int, vocabulary: int) -> float:
    """Distinct n-grams over the number expected of as many uniform draws (Liu 2022, arXiv 2202.13587, eq. 3).

    Args:
        vocabulary: V of the formula; words of the language, not of the texts, or texts cannot be compared.
    """
    grams = [tuple(text[at : at + n]) for text in texts for at in range(len(text) - n + 1)]
    if not grams:
        return 0.0
    return len(set(grams)) / (vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** len(grams)))


def distinct(text: Sequence[str], n: int) -> float:
    """Share of a text's n-grams that are different ones; 0 for a text shorter than n."""
    grams = [tuple(text[at : at + n]) for at in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def mtld(text: Sequence[str]) -> float:
    """Measure of textual lexical diversity (McCarthy & Jarvis 2010), mean of both directions; 0 for an empty text."""
    if not text:
        return 0.0
    return (_mtld_one_way(text) + _mtld_one_way(text[::-1])) / 2


def _mtld_one_way(text: Sequence[str]) -> float:
    factors, seen, count = 0.0, set[str](), 0
    for word in text:
        count += 1
        seen.add(word)
        if len(seen) / count <= FACTOR_SIZE:
            factors, seen, count = factors + 1, set(), 0
    if count:
        factors += (1 - len(seen) / count) / (1 - FACTOR_SIZE)
    return len(text) / factors if factors else float(len(text))


def self_bleu(texts: Sequence[Sequence[str]], order: int = 4) -> list[float]:
    """BLEU of each text with all others as references (Zhu 2018, arXiv 1802.01886): high where all say the same.

    Geometric mean of modified n-gram precisions up to `order` with add-one smoothing above unigrams (Lin & Och 2004),
    times the brevity penalty of Papineni 2002.
    """
    counted = [[_counts(text, n) for n in range(1, order + 1)] for text in texts]
    top: list[dict[tuple[str, ...], list[tuple[int, int]]]] = [{} for _ in range(order)]
    for k, levels in enumerate(counted):  # of each n-gram the two texts that have it most often
        for n, grams in enumerate(levels):
            for gram, count in grams.items():
                best = top[n].setdefault(gram, [])
                best.append((count, k))
                best.sort(reverse=True)
                del best[2:]
    lengths = [len(text) for text in texts]
    found = []
    for k, levels in enumerate(counted):
        log_precision = 0.0
        for n, grams in enumerate(levels):
            hits = sum(min(count, next((c for c, who in top[n][gram] if who != k), 0)) for gram, count in grams.items())
            total, extra = sum(grams.values()), float(n > 0)
            precision = (hits + extra) / (total + extra) if total + extra else 0.0
            log_precision += np.log(precision) / order if precision > 0 else -np.inf
        others = [length for other, length in enumerate(lengths) if other != k]
        closest = min(others, key=lambda length: (abs(length - lengths[k]), length)) if others else 0
        penalty = 1.0 if lengths[k] > closest else np.exp(1 - closest / max(1, lengths[k]))
        found.append(float(penalty * np.exp(log_precision)))
    return found


def _counts(text: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(text[at : at + n]) for at in range(len(text) - n + 1))


def compressed_share(text: str) -> float:
    """Bytes after zlib at level 9 over bytes before; low where a text repeats itself. 1 for an empty text."""
    data = text.encode()
    return min(1.0, len(zlib.compress(data, 9)) / len(data)) if data else 1.0

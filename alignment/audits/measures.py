"""Measures of a reward model beside swaps: accuracy by group, calibration, words, over-optimisation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alignment.annotators import WORD
from alignment.audits.effects import clustered_mean
from alignment.audits.scoring import Group, Judge
from alignment.audits.swaps import SWAPS
from alignment.calibration_plot import PairReport, pair_report
from alignment.direct import prompt_key
from alignment.preference_rows import Comparison, PreferenceRow, Prompt, pairs_from_ranked
from alignment.statistics.bootstrap import DRAWS
from alignment.statistics.clusters import clustered_interval

F64 = npt.NDArray[np.float64]
LABELS = ("pool", "annotator_id", "source")


@dataclass(frozen=True)
class GroupAccuracy:
    """Share of a group's pairs in which the preferred response has the higher reward; equal rewards count as half."""

    by: str  # pool, annotator_id, source, dialect
    group: str
    pairs: int
    prompts: int
    accuracy: float | None
    low: float | None  # 95 %, by prompt (`statistics/clusters.py`); None with one prompt
    high: float | None


def all_pairs(rows: Iterable[Comparison]) -> list[PreferenceRow]:
    """Pairs as they are, ranked lists as all their pairs."""
    found: list[PreferenceRow] = []
    for row in rows:
        found += [row] if isinstance(row, PreferenceRow) else pairs_from_ranked([row])
    return found


def _pair_rewards(judge: Judge, pairs: Sequence[PreferenceRow]) -> F64:
    """(pairs, 2): of the preferred and of the other response."""
    items = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
    return judge.rewards(items).reshape(-1, 2)


def _accuracy(by: str, group: str, pairs: Sequence[PreferenceRow], rewards: F64) -> GroupAccuracy:
    known: npt.NDArray[np.bool_] = ~np.isnan(rewards.sum(axis=1))
    right = (np.sign(rewards[known, 0] - rewards[known, 1]) + 1) / 2
    keys = [prompt_key(pair.prompt) for pair, there in zip(pairs, known, strict=True) if there]
    found = clustered_interval(right, keys, np.ones(len(right)))
    low = None if found.low is None else max(0.0, found.low)
    high = None if found.high is None else min(1.0, found.high)
    return GroupAccuracy(by, group, len(right), found.clusters, found.mean, low, high)


def accuracies(judge: Judge, rows: Sequence[Comparison]) -> list[GroupAccuracy]:
    """Accuracy for all pairs, for each value of each label, and for pairs in two dialects.

    The dialect rows hold the same pairs twice, both responses as they are and both with features of African American
    English (`swaps.dialect`), where those apply to both: the preference is the same, only the dialect differs.
    """
    pairs = all_pairs(rows)
    rewards = _pair_rewards(judge, pairs)
    found = [_accuracy("all", "all", pairs, rewards)]
    for label in LABELS:
        values = [str(getattr(pair, label)) for pair in pairs]
        for value in sorted(set(values) - {""}):
            here = [at for at, one in enumerate(values) if one == value]
            found.append(_accuracy(label, value, [pairs[at] for at in here], rewards[here]))
    swap = SWAPS["dialect"]
    versions = [(pair, swap.versions(pair.chosen), swap.versions(pair.rejected)) for pair in pairs]
    for side, name in enumerate((swap.first, swap.second)):
        turned = [
            PreferenceRow(pair.prompt, better[side], worse[side])
            for pair, better, worse in versions
            if better and worse
        ]
        if turned:
            found.append(_accuracy("dialect", name, turned, _pair_rewards(judge, turned)))
    return found


def calibration(judge: Judge, rows: Sequence[Comparison]) -> PairReport | None:
    """Calibration on all pairs, None without any that can be scored. Rewards must be differences in log-odds."""
    rewards = _pair_rewards(judge, all_pairs(rows))
    known = rewards[~np.isnan(rewards).any(axis=1)]
    return pair_report(known[:, 0], known[:, 1]) if len(known) else None


def words_of(groups: Iterable[Group]) -> list[str]:
    """All different words of the responses, in lower case and sorted."""
    return sorted({word.lower() for group in groups for text in group.responses for word in WORD.findall(text)})


def ranked_words(
    judge: Judge, words: Sequence[str], prompts: Sequence[Prompt], most: int
) -> dict[str, list[dict[str, Any]]]:
    """Rewards of one-word responses, mean over the prompts: the `most` best and worst; equal ones by spelling.

    Returns:
        `best` and `worst`: lists of {word, reward}, the most extreme first.
    """
    table = judge.rewards([(prompt, word) for word in words for prompt in prompts]).reshape(len(words), len(prompts))
    means = table.mean(axis=1)
    rated = [(float(mean), word) for mean, word in zip(means, words, strict=True) if not math.isnan(mean)]
    best = sorted(rated, key=lambda pair: (-pair[0], pair[1]))[:most]
    worst = sorted(rated)[:most]
    return {
        name: [{"word": word, "reward": reward} for reward, word in chosen]
        for name, chosen in (("best", best), ("worst", worst))
    }


@dataclass(frozen=True)
class Optimised:
    """What the best of n responses by the proxy is worth above a random one, in standard deviations of candidates."""

    n: int
    kl: float  # ln n − (n − 1)/n nats from the policy that made the candidates (Stiennon 2020, App. G.3)
    proxy: float | None
    gold: float | None
    gold_low: float | None  # 95 %, prompts resampled
    gold_high: float | None


def best_of_weights(count: int, n: int) -> F64:
    """(count,) chance that the candidate of rank k (0 the lowest) is the best of n drawn without replacement.

    C(k, n − 1) / C(count, n): every set of n counts alike, so nothing is drawn and nothing is left to chance.
    """
    total = math.comb(count, n)
    return np.array([math.comb(k, n - 1) / total for k in range(count)])


def over_optimisation(
    proxy: Judge, gold: Judge, groups: Sequence[Group], seed: int = 0, draws: int = DRAWS
) -> list[Optimised]:
    """The curve of n = 1, 2, 4, … up to the least number of candidates of a prompt; [] when no prompt has two.

    Prompts with fewer than two scorable candidates are left out. Each judge's rewards are divided by its standard
    deviation around the prompts' means, so both curves begin at 0 and have a unit.
    """
    tables = []
    for group in groups:
        items = [(group.prompt, text) for text in group.responses]
        both = np.stack([proxy.rewards(items), gold.rewards(items)])
        both = both[:, ~np.isnan(both).any(axis=0)]
        if both.shape[1] > 1:
            tables.append(both - both.mean(axis=1, keepdims=True))
    if not tables:
        return []
    scale = np.sqrt(np.mean(np.concatenate([table**2 for table in tables], axis=1), axis=1))
    largest = min(table.shape[1] for table in tables)
    found = []
    for n in (2**k for k in range(largest.bit_length())):
        values = np.array([best_of(table, n) for table in tables])
        values = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
        middle, low, high = clustered_mean(values[:, 1], np.ones(len(values)), seed, draws)
        kl = math.log(n) - (n - 1) / n
        found.append(Optimised(n, kl, float(values[:, 0].mean()), middle, low, high))
    return found


def best_of(table: F64, n: int) -> F64:
    """Expected numbers of the best of n by the first number; candidates that are equal in it share their chances.

    Args:
        table: (numbers, candidates), the proxy first.

    Returns:
        (numbers,).
    """
    weights = best_of_weights(table.shape[1], n)
    order = np.argsort(table[0], kind="stable")
    _, tied = np.unique(table[0][order], return_inverse=True)
    shared = np.bincount(tied, weights=weights) / np.bincount(tied)
    return np.asarray(table[:, order] @ shared[tied], dtype=np.float64)

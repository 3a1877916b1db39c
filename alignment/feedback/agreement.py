"""How far people agree: Krippendorff's α for ordinal data, within and between pools."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

from alignment.feedback.answers import Answer, chosen_step

Units = Mapping[Hashable, Sequence[int]]  # what is judged → the values it was given, one a person


def ordinal_alpha(units: Iterable[Sequence[int]]) -> float | None:
    """α = 1 − observed / expected disagreement, for ordered values (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", section C with the ordinal metric).

    Returns:
        1 for full agreement, 0 for chance, below 0 for systematic disagreement; None when no unit has two values, or
        all values are the same: there is nothing to measure then.
    """
    weights: defaultdict[tuple[int, int], float] = defaultdict(float)
    for values in units:
        if len(values) < 2:
            continue
        together = Counter(permutations(values, 2))
        for pair, count in together.items():
            weights[pair] += count / (len(values) - 1)
    totals: defaultdict[int, float] = defaultdict(float)
    for (one, _), weight in weights.items():
        totals[one] += weight
    n, scale = sum(totals.values()), sorted(totals)

    def distance(one: int, other: int) -> float:
        low, high = min(one, other), max(one, other)
        between = sum(totals[value] for value in scale if low <= value <= high)
        return (between - (totals[low] + totals[high]) / 2) ** 2

    observed = sum(weight * distance(*pair) for pair, weight in weights.items())
    expected = sum(totals[one] * totals[other] * distance(one, other) for one in scale for other in scale)
    return 1 - (n - 1) * observed / expected if expected else None


def units_of(answers: Iterable[Answer]) -> dict[str, dict[Hashable, list[int]]]:
    """The values people gave: `ranks` and `ratings` of (item, response), `choices` of pairs as steps 1 to 8 from
    "response 0 is much better" to "response 1 is"."""
    found: dict[str, dict[Hashable, list[int]]] = {"ranks": {}, "ratings": {}, "choices": {}}
    for answer in answers:
        body = answer.body
        if "better" in body:
            step = chosen_step({**body, "shown": [0, 1]})
            found["choices"].setdefault(answer.item, []).append(step)
            continue
        for kind in ("ranks", "ratings"):
            for k, value in enumerate(body[kind]):
                found[kind].setdefault((answer.item, k), []).append(value)
    return found


def alphas(answers: Iterable[Answer]) -> dict[str, dict[str, Any]]:
    """For ranks, ratings and choices: α, how many units have two values or more, and how many values these have."""
    found = {}
    for kind, units in units_of(answers).items():
        shared = [values for values in units.values() if len(values) > 1]
        found[kind] = {"alpha": ordinal_alpha(shared), "units": len(shared), "values": sum(map(len, shared))}
    return found


def pool_disagreement(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    """How often members of two pools order two responses of one item the other way round.

    Returns:
        For each two pools, and each pool with itself, that answered a common item: `pools`, `compared` (pairs of
        responses ordered by both of two people, ties left out), `opposed` of them, and `share`.
    """
    by_item: defaultdict[str, list[tuple[str, dict[tuple[int, int], bool]]]] = defaultdict(list)
    for answer in answers:
        by_item[answer.item].append((answer.pool, _orders(answer.body)))
    compared: Counter[tuple[str, str]] = Counter()
    opposed: Counter[tuple[str, str]] = Counter()
    for people in by_item.values():
        for (pool, mine), (other_pool, theirs) in combinations(people, 2):
            key = (min(pool, other_pool), max(pool, other_pool))
            common = mine.keys() & theirs.keys()
            compared[key] += len(common)
            opposed[key] += sum(mine[pair] != theirs[pair] for pair in common)
    return [
        {"pools": list(key), "compared": n, "opposed": opposed[key], "share": opposed[key] / n}
        for key, n in sorted(compared.items())
        if n
    ]


def _orders(body: Mapping[str, Any]) -> dict[tuple[int, int], bool]:
    """(i, j) → whether response i is better than j, without ties."""
    if "better" in body:
        return {(0, 1): body["better"] == 0}
    ranks = body["ranks"]
    return {(i, j): ranks[i] < ranks[j] for i, j in combinations(range(len(ranks)), 2) if ranks[i] != ranks[j]}

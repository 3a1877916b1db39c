"""What the answers of a store amount to: for the admin page and for the data card."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from itertools import combinations
from statistics import median
from typing import Any

from alignment.feedback.agreement import alphas, pool_disagreement
from alignment.feedback.answers import Answer
from alignment.feedback.items import Item
from alignment.feedback.store import Store

HOUR = 3600.0


def summary(store: Store) -> dict[str, Any]:
    """Throughput, agreement, overlap and the disagreement of pools, as plain JSON."""
    answers, items, people = store.answers(), store.items(), store.annotators()
    now = time.time()
    pools = {}
    for pool in sorted(set(people.values())):
        of_pool = [answer for answer in answers if answer.pool == pool]
        members = [who for who, where in people.items() if where == pool]
        each = Counter(answer.annotator for answer in of_pool)
        pools[pool] = {
            "annotators": len(members),
            "answers": len(of_pool),
            "last_hour": sum(answer.saved > now - HOUR for answer in of_pool),
            "last_day": sum(answer.saved > now - 24 * HOUR for answer in of_pool),
            "median_answers": median(each[who] for who in members),
            "agreement": alphas(of_pool),
        }
    answered = Counter(answer.item for answer in answers)
    return {
        "items": len(items),
        "items_for_everybody": sum(bool(item.overlap) for item in items.values()),
        "items_answered": len(answered),
        "items_answered_twice": sum(count > 1 for count in answered.values()),
        "answers": len(answers),
        "pools": pools,
        "agreement": alphas(answers),
        "disagreement": pool_disagreement(answers),
        "flags": flag_counts(answers),
        "skews": skews(answers, items),
    }


def flag_counts(answers: list[Answer]) -> dict[str, int]:
    """How often each flag was set."""
    return dict(Counter(flag for answer in answers for flags in answer.body.get("flags", []) for flag in flags))


def skews(answers: list[Answer], items: dict[str, Item]) -> dict[str, Any]:
    """What would tilt a model trained on the answers, each with the count it is a share of.

    Returns:
        `largest_annotator_share` of the answers; `first_shown_is_best` by number of responses, ties for best left out:
        1/K of them without a habit of place; `longer_is_better`: of pairs of different length, how many prefer the
        longer; `ratings`: how often each rating was given.
    """
    each = Counter(answer.annotator for answer in answers)
    first: defaultdict[int, list[bool]] = defaultdict(list)
    longer: list[bool] = []
    ratings: Counter[int] = Counter()
    for answer in answers:
        body, texts = answer.body, items[answer.item].responses
        ranks = body.get("ranks") or [1 if k == body["better"] else 2 for k in range(2)]
        if ranks.count(1) == 1:
            first[len(texts)].append(ranks[body["shown"][0]] == 1)
        for i, j in combinations(range(len(texts)), 2):
            if ranks[i] != ranks[j] and len(texts[i]) != len(texts[j]):
                longer.append((ranks[i] < ranks[j]) == (len(texts[i]) > len(texts[j])))
        ratings.update(body.get("ratings", []))
    return {
        "largest_annotator_share": _share(max(each.values(), default=0), len(answers)),
        "first_shown_is_best": {str(k): _share(sum(hits), len(hits)) for k, hits in sorted(first.items())},
        "longer_is_better": _share(sum(longer), len(longer)),
        "ratings": {str(rating): ratings[rating] for rating in sorted(ratings)},
    }


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"share": part / whole if whole else None, "of": whole}

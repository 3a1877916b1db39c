"""One answer: what the form sends, what the store keeps, which preference rows it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignment.feedback.items import LETTERS, Item
from alignment.preference_rows import PreferenceRow, RankedRow, RatingRow
from curation.errors import Problem, RecordError

FLAGS = {
    "toxic": "Toxic",
    "biased": "Biased",
    "untrue": "Untrue",
    "off_task": "Off task",
    "refuses_needlessly": "Refuses needlessly",
}
# Eight steps from "the first is much better" to "the second is", without a middle, as in the tool of Bai 2022
# (arXiv:2204.05862). Each side has the four degrees of Llama 2 (Touvron 2023, arXiv:2307.09288, §3.2.1), worth in units
# of reward its small margins (table 27).
STRENGTHS = ("much better", "better", "slightly better", "hardly better")
MARGINS = (1.0, 2 / 3, 1 / 3, 0.0)


@dataclass(frozen=True)
class Answer:
    """What one annotator said about one item, in the item's own order of responses.

    `body` holds `shown` (indices as the page showed them) and, for a ranking, `ranks` (1 best, ties share a rank),
    `ratings` (1–5) and `flags`; for a pair, `better` (0 or 1) and `strength` (0 strongest, 3 weakest).
    """

    annotator: str
    pool: str
    item: str
    guidelines: str
    body: dict[str, Any]
    saved: float = 0.0  # seconds since 1970


def body_of(item: Item, annotator: str, form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The answer in a submitted form.

    Raises:
        RecordError: something is missing or out of range; the text is meant for the annotator.
    """
    shown = item.order_for(annotator)
    if item.kind == "pair":
        step = _number(form, "choice", 1, 8, "a choice between the two responses")
        place = 0 if step <= 4 else 1
        return {"shown": shown, "better": shown[place], "strength": step - 1 if place == 0 else 8 - step}
    count = len(shown)
    given, ratings, flags = [0] * count, [0] * count, [list[str]() for _ in shown]
    for place, k in enumerate(shown):
        letter = LETTERS[place]
        given[k] = _number(form, f"rank_{letter}", 1, count, f"a rank for response {letter}")
        ratings[k] = _number(form, f"rating_{letter}", 1, 5, f"a quality for response {letter}")
        flags[k] = [flag for flag in FLAGS if flag in form.get(f"flag_{letter}", ())]
    ranks = [1 + sum(other < rank for other in given) for rank in given]
    return {"shown": shown, "ranks": ranks, "ratings": ratings, "flags": flags}


def chosen_step(body: Mapping[str, Any]) -> int:
    """1–8: where on the page's scale a pair was answered."""
    strength = int(body["strength"])
    return strength + 1 if body["better"] == body["shown"][0] else 8 - strength


def ranked_row(item: Item, answer: Answer) -> RankedRow:
    """A ranking as a ranked list, responses in the item's order."""
    return RankedRow(item.prompt, item.responses, tuple(answer.body["ranks"]), **_labels(item, answer))


def pair_row(item: Item, answer: Answer) -> PreferenceRow:
    """A pairwise choice, with its strength as the margin."""
    better = answer.body["better"]
    margin = MARGINS[answer.body["strength"]]
    return PreferenceRow(
        item.prompt, item.responses[better], item.responses[1 - better], margin, **_labels(item, answer)
    )


def rating_rows(item: Item, answer: Answer) -> list[RatingRow]:
    """The ratings of a ranking, one a response."""
    return [
        RatingRow(item.prompt, text, float(rating), tuple(flags), **_labels(item, answer))
        for text, rating, flags in zip(item.responses, answer.body["ratings"], answer.body["flags"], strict=True)
    ]


def _labels(item: Item, answer: Answer) -> dict[str, str]:
    return {
        "annotator_id": answer.annotator,
        "source": item.source or "feedback",
        "pool": answer.pool,
        "guidelines": answer.guidelines,
    }


def _number(form: Mapping[str, Sequence[str]], name: str, low: int, high: int, what: str) -> int:
    given = (form.get(name) or [""])[0]
    if given not in map(str, range(low, high + 1)):
        raise RecordError(Problem("bad-answer", f"Please give {what}.", name, f"{low} to {high}"))
    return int(given)

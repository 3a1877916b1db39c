"""The data card as Markdown: who, how many, agreement, known skews, the guidelines' text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SMALLEST_GROUP = 5  # a group of fewer people is not counted by name: they could be recognised
KINDS = ("ranks", "ratings", "choices")


def card_markdown(card: Mapping[str, Any]) -> str:
    """The page for what `card.json` holds."""
    period = f"Answers from {card['first_answer']} to {card['last_answer']} (UTC)."
    parts = [
        ["# Data card: human feedback", "", period],
        ["## How many", "", *_how_many(card)],
        ["## Who", "", *_who(card)],
        ["## Agreement", "", *_agreement(card)],
        ["## Known skews", "", *_skews(card)],
    ]
    for text in card["guidelines"]:
        quoted = ["> " + line if line else ">" for line in text["text"].splitlines()]
        parts.append([f"## Guidelines, version {text['version']} ({text['answers']} answers)", "", *quoted])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _how_many(card: Mapping[str, Any]) -> list[str]:
    lines = [f"- `{name}`: {file['rows']} rows" for name, file in card["files"].items()]
    lines.append(f"- {card['answers']} answers to {card['items_answered']} of {card['items']} items")
    return [*lines, f"- items with two answers or more: {card['items_answered_twice']}"]


def _who(card: Mapping[str, Any]) -> list[str]:
    pools = [(name, pool["annotators"], pool["answers"]) for name, pool in card["pools"].items()]
    said = [(field, group, n) for field, groups in card["background"].items() for group, n in groups.items()]
    about = f"What annotators said about themselves, all of it optional; fewer than {SMALLEST_GROUP} are joined:"
    return [
        *table(("pool", "annotators", "answers"), pools),
        "",
        *([about, "", *table(("field", "group", "people"), said)] if said else ["Nobody gave a background."]),
    ]


def _agreement(card: Mapping[str, Any]) -> list[str]:
    pools = {"everybody": card["agreement"], **{name: pool["agreement"] for name, pool in card["pools"].items()}}
    alphas = [
        (name, *(f"{number(of[kind]['alpha'])} ({of[kind]['units']})" for kind in KINDS)) for name, of in pools.items()
    ]
    opposed = [(" – ".join(row["pools"]), number(row["share"]), row["compared"]) for row in card["disagreement"]]
    return [
        "Krippendorff's α for ordinal values; in brackets the units with two values or more.",
        "",
        *table(("pool", *KINDS), alphas),
        "",
        "Pairs of responses that two people order the other way round:",
        "",
        *table(("pools", "share", "compared"), opposed),
    ]


def _skews(card: Mapping[str, Any]) -> list[str]:
    skews = card["skews"]
    lines = [
        f"- the busiest annotator gave {share_text(skews['largest_annotator_share'])} answers",
        f"- the longer response is preferred in {share_text(skews['longer_is_better'])} pairs of different length",
    ]
    for k, share in skews["first_shown_is_best"].items():
        lines.append(
            f"- the first shown of {k} is best in {share_text(share)}; {1 / int(k):.3f} without a habit of place"
        )
    lines += [f"- rating {rating} was given {n} times" for rating, n in skews["ratings"].items()]
    return lines + [f"- flag `{flag}` was set {n} times" for flag, n in sorted(card["flags"].items())]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    cells = [[_cell(value) for value in row] for row in (head, ["---"] * len(head), *rows)]
    return ["| " + " | ".join(row) + " |" for row in cells]


def _cell(value: object) -> str:
    """What people typed must neither break out of its cell nor become markup."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("&", "&amp;").replace("<", "&lt;")


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def share_text(found: Mapping[str, Any]) -> str:
    """`share` of `of`, as text."""
    return f"{number(found['share'])} of {found['of']}"

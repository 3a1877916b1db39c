"""One judged text as lines that a person can check: verdict, reasons, and every mention with role, evidence and words.

Terms are shown as they stand, because the reader has just typed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

AROUND = 40  # code points shown on each side of a mention


def explain(result: dict[str, Any], text: str) -> Iterator[str]:
    """Lines of one result of `score`."""
    yield f"verdict: {result['verdict']}"
    for reason in result["reasons"]:
        where = f" at {reason['start']}–{reason['end']}" if "start" in reason else ""
        why = f"{reason['signal']} {reason['value']:.3f}, limit {reason['threshold']}"
        yield f"  because {reason['code']}: {why}{where}"
    if result["scores"]:
        yield "scores: " + ", ".join(f"{name} {value:.3f}" for name, value in result["scores"].items())
    if not result["mentions"]:
        yield "mentions: none of the lexicon's terms"
        return
    yield "mentions:"
    for mention in result["mentions"]:
        yield from _mention(mention, text)


def _mention(mention: dict[str, Any], text: str) -> Iterator[str]:
    start, end = mention["start"], mention["end"]
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    target = f", target {mention['target']}" if "target" in mention else ""
    yield f"  [{start}–{end}] {_line(before)}»{_line(text[start:end])}«{_line(after)}"
    yield f"      {mention['category']} `{mention['term']}`{target}: {mention['role']} {mention['score']:.2f}"
    marks = [name for name in ("quoted", "framed") if mention[name]]
    stance = f"the passage is {mention['stance']}" if "stance" in mention else "the passage was not read by the encoder"
    yield "      evidence: " + ", ".join([f"cue {mention['cue']}", *marks, stance])


def _line(piece: str) -> str:
    return " ".join(piece.split("\n"))

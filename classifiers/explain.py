"""One judged text as lines that a person can check: verdict, reasons, and every mention with role, evidence and words.

Terms are shown as they stand, because the reader has just typed them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

AROUND = 40  # code points shown on each side of a mention
LONGEST = 90  # code points shown of a passage
# Where a feature of the context model looks, by its prefix, and what it looks at, in words.
PLACES = {"near_": "near the term", "window_": "in its passage", "document_": "in the document",
          "next_": "in the next passage", "before_": "in the passage before"}  # fmt: skip
WORDS = {
    "attribution": "words of attribution", "meta": "talk about words", "definition": "words of definition",
    "counter": "words of disapproval", "academic": "learned words", "hostile": "hostile words",
    "second": "address to a reader", "ingroup": "words of one's own group", "identity": "names of groups",
    "disclaimer": "a disclaimer", "negation": "negation", "toxicity": "toxicity", "toxic": "toxicity", "hate": "hate",
    "counter_speech": "answers to hate", "length": "words",
}  # fmt: skip
OTHERS = {
    "guard_phrase": "a phrase that settles another sense", "guard_words": "words that go with another sense",
    "severity": "how severe the term is", "disguised": "a disguised spelling", "in_quotes": "quotation marks",
    "tight_quotes": "quotation marks around the term alone", "dictionary_line": "a line like a dictionary entry",
    "other_terms_near": "other demeaning terms near it", "other_terms_window": "other demeaning terms in its passage",
    "exclamations": "exclamation marks", "attributed_before": "an attribution before it",
    "opens_window": "it opens the passage", "question": "question marks", "other_language": "not in English",
}  # fmt: skip


def explain(result: dict[str, Any], text: str) -> Iterator[str]:
    """Lines of one result of `score`."""
    yield f"verdict: {result['verdict']}"
    for reason in result["reasons"]:
        why = f"{reason['signal']} {reason['value']:.3f}, limit {reason['threshold']}"
        if "start" in reason:
            passage = _line(text[reason["start"] : reason["end"]])
            shown = passage if len(passage) <= LONGEST else passage[: LONGEST - 1] + "…"
            why += f" at {reason['start']}–{reason['end']}: »{shown}«"
        yield f"  because {reason['code']}: {why}"
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
    listed = f"`{mention['term']}`"
    if mention["term"].casefold() not in text[start:end].casefold():
        listed = f"(listed under {listed})"
    yield f"      {mention['category']} {listed}{target}: {mention['role']} {mention['score']:.2f}"
    marks = [name for name in ("quoted", "framed") if mention[name]]
    stance = f"the passage is {mention['stance']}" if "stance" in mention else "the passage was not read by the encoder"
    yield "      evidence: " + ", ".join([f"cue {mention['cue']} ({spoken(mention['cue'])})", *marks, stance])


def spoken(cue: str) -> str:
    """The name of a feature in words: `low_near_hostile` is "little or no: hostile words near the term"."""
    if cue.startswith("low_read_"):
        return spoken(cue.removeprefix("low_")).replace("reads it", "does not read it")
    if cue.startswith("low_"):
        return f"little or no: {spoken(cue.removeprefix('low_'))}"
    if cue in OTHERS:
        return OTHERS[cue]
    if cue.startswith("category_"):
        return f"its category, {cue.removeprefix('category_').replace('_', ' ')}"
    if cue.startswith("read_"):
        return f"the encoder reads it as {cue.removeprefix('read_').removesuffix('_logit').replace('_', ' ')}"
    place = next((prefix for prefix in PLACES if cue.startswith(prefix)), "")
    what = cue.removeprefix(place)
    return f"{WORDS.get(what, what.replace('_', ' '))} {PLACES[place]}" if place else cue.replace("_", " ")


def _line(piece: str) -> str:
    return " ".join(piece.split("\n"))

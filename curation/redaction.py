"""Spans out of a text: mask them, cut them, or drop the sentence around them.

Called by `curation/decision.py` alone; offsets are code points into the normalised text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MASK = "[MASKED]"  # a span whose label has no replacement of its own

# PII replacements: documentation addresses (RFC 2606 example domain, RFC 5737 TEST-NET-1) and a fictitious number
# (NANPA 555-01xx), so that a model trained on the text still sees the shape of what stood there.
REPLACEMENTS = {"EMAIL": "email@example.com", "IP": "192.0.2.1", "PHONE": "555-0100"}

SENTENCE_END = re.compile(r"[.!?。！？]+[\"'”’)\]]*\s+|\n+")


@dataclass(frozen=True)
class Edit:
    """One span to take out, and how: `mask`, `cut` or `drop_sentence`."""

    start: int
    end: int
    action: str
    label: str = ""


def sentence_bounds(text: str) -> list[tuple[int, int]]:
    """[start, end) of every sentence; together they cover the text. A line break ends a sentence too."""
    bounds = []
    start = 0
    for match in SENTENCE_END.finditer(text):
        bounds.append((start, match.end()))
        start = match.end()
    if start < len(text):
        bounds.append((start, len(text)))
    return bounds


def redact(text: str, edits: Sequence[Edit]) -> str:
    """`text` after all edits. Where spans overlap, removal wins over masking and the union is taken."""
    removed = [(e.start, e.end) for e in edits if e.action == "cut"]
    sentence_edits = [e for e in edits if e.action == "drop_sentence"]
    if sentence_edits:
        removed += [
            (start, end)
            for start, end in sentence_bounds(text)
            if any(e.start < end and e.end > start for e in sentence_edits)
        ]
    gone = _union(removed)
    pieces = [(start, end, "") for start, end in gone]
    masks: list[tuple[int, int, str]] = []
    for edit in sorted((e for e in edits if e.action == "mask"), key=lambda e: (e.start, -e.end, e.label)):
        replacement = REPLACEMENTS.get(edit.label, MASK)
        if masks and edit.start < masks[-1][1]:  # what reaches beyond the mask before it is masked too
            start, end, before = masks[-1]
            if edit.end > end and replacement == before:
                masks[-1] = (start, edit.end, before)
            elif edit.end > end:
                masks.append((end, edit.end, replacement))
        else:
            masks.append((edit.start, edit.end, replacement))
    for start, end, replacement in masks:
        pieces += [(*part, replacement) for part in _without(start, end, gone)]
    out = []
    position = 0
    for start, end, replacement in sorted(pieces):
        out += [text[position:start], replacement]
        position = end
    out.append(text[position:])
    return "".join(out).strip()


def _union(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _without(start: int, end: int, gone: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of [start, end) outside `gone` (sorted, disjoint)."""
    parts = []
    for cut_start, cut_end in gone:
        if cut_end <= start or cut_start >= end:
            continue
        if cut_start > start:
            parts.append((start, cut_start))
        start = cut_end
    return [*parts, (start, end)] if start < end else parts

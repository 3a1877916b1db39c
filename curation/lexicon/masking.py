"""Terms of abuse as reports and logs show them: enough to recognise, not enough to repeat."""

from __future__ import annotations

MASK = "*"


def mask_term(term: str) -> str:
    """`term` with every letter and digit but the first of each word replaced by `*`; length and spaces stay.

    A word of one character is masked whole. `mask_term("two words")` is `"t** w****"`.
    """
    masked = []
    at_start = True
    for position, char in enumerate(term):
        if not char.isalnum():
            masked.append(char)
            at_start = at_start or char.isspace() or char == "-"
            continue
        following = term[position + 1 : position + 2]
        shown = at_start and following.isalnum()
        masked.append(char if shown else MASK)
        at_start = False
    return "".join(masked)


def mask_spans(text: str, spans: list[tuple[int, int]]) -> str:
    """`text` with every span [start, end) (code points) masked; overlaps and any order are allowed."""
    parts = []
    done = 0
    for start, end in sorted(spans):
        begin = max(start, done)
        if begin >= end:
            continue
        parts += [text[done:begin], mask_term(text[begin:end])]
        done = end
    return "".join([*parts, text[done:]])

"""One labelled text: what every source of training examples yields and what the fits read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A text with its document label and the role of the mentions in it (None: unlabelled)."""

    text: str
    hateful: bool
    role: str | None
    source: str
    key: str  # what must stay in one split
    frame: str = ""  # generated examples: the frame it was filled from; the members of a pair share it
    spans: tuple[tuple[int, int], ...] = ()  # the mentions `role` speaks of, code points; empty: all of the text's

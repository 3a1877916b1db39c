"""What arms wrote to the same prompts, side by side; abuse is masked until it is asked for by a click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from alignment.generations import SideBySide
from alignment.report_order import stage_rank
from curation.marked_text import Masker

LONGEST = 600  # code points of a text that are shown
SHOWN_STAGES = 6


def samples_section(found: Mapping[tuple[int, str], Sequence[SideBySide]], reveal: bool = True) -> str:
    """The section's content, empty when there is nothing to show.

    Args:
        reveal: False leaves what is masked out of the page altogether, for pages that are published.
    """
    masker = Masker()
    parts: list[str] = []
    for (seed, stage), rows in sorted(found.items(), key=lambda item: stage_rank(item[0][1]))[:SHOWN_STAGES]:
        blocks = "".join(_prompt(row, masker, reveal) for row in rows)
        opened = " open" if not parts else ""
        head = f"{escape(stage)} <span class='dim'>seed {seed}, {len(rows)} prompts</span>"
        parts.append(f"<details{opened}><summary>{head}</summary>{blocks}</details>")
    if not parts:
        return ""
    how = "a click on a text with * shows it as it is" if reveal else "what is masked is not in this page"
    note = f"Prompts drawn by hash of their id, first sample of each arm, nothing chosen. Abuse is masked; {how}."
    return f"<p class='note'>{note}</p>{''.join(parts)}"


def _prompt(row: SideBySide, masker: Masker, reveal: bool) -> str:
    texts = [row.prompt, *row.texts.values()]
    cut = [text[:LONGEST] + ("…" if len(text) > LONGEST else "") for text in texts]
    masked = masker.mask_all(cut)
    shown = [_maskable(text, hidden, reveal) for text, hidden in zip(cut, masked, strict=True)]
    sides = "".join(
        f'<div class="side"><div class="head">{escape(arm)}</div>{text}</div>'
        for arm, text in zip(row.texts, shown[1:], strict=True)
    )
    return f'<h3>{escape(row.item_id)}</h3>{shown[0]}<div class="sides">{sides}</div>'


def _maskable(text: str, masked: str, reveal: bool) -> str:
    """A text as HTML; one with abuse in it opens by a click."""
    if masked == text:
        return f'<div class="text" dir="auto">{escape(text) or "<span class=dim>nothing</span>"}</div>'
    hidden = f'<span class="text" dir="auto">{escape(masked)}</span>'
    if not reveal:
        return f'<div class="text">{hidden}</div>'
    plain = f'<div class="text" dir="auto">{escape(text)}</div>'
    return f'<details class="reveal"><summary>{hidden}</summary>{plain}</details>'

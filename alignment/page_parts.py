"""Parts of a page that stands alone: nothing is fetched, nothing runs, all that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from alignment.report_css import EXPERIMENT_STYLE


def document(title: str, heading: str, under: str, sections: Sequence[str], foot: str) -> str:
    """The whole page.

    Args:
        under, sections, foot: HTML, escaped already.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{EXPERIMENT_STYLE}</style></head><body>\n"
        f'<header><h1>{escape(heading)}</h1><p class="dim">{under}</p></header>\n<main>\n'
        + "\n".join(sections)
        + f"\n</main>\n<footer>{foot}</footer>\n</body></html>\n"
    )


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number, or a dash for none."""
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None, sign: bool = False) -> str:
    """Both bounds, or a dash."""
    return "–" if low is None or high is None else f"{number(low, 3, sign)} to {number(high, 3, sign)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first `words` columns are text, the others numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = [' class="n"' if at >= words else "" for at in range(len(values))]
        return "".join(f"<{tag}{kind}>{escape(one)}</{tag}>" for kind, one in zip(kinds, values, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table></div>'


def section(title: str, note: str, body: str) -> str:
    """A heading, what the section says, and its body in HTML."""
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'

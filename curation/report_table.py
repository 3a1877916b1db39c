"""Tables and names of the report, as HTML. Cells are HTML already: whoever makes one escapes it."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], numeric: Collection[int] = (), wide: Collection[int] = ()
) -> str:
    """An HTML table.

    Args:
        numeric: columns set to the right, in digits of one width.
        wide: columns that hold bars.
    """
    kinds = {**dict.fromkeys(wide, ' class="wide"'), **dict.fromkeys(numeric, ' class="n"')}
    titles = "".join(f"<th{kinds.get(i, '')}>{title}</th>" for i, title in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{kinds.get(i, '')}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{titles}</tr>{lines}</table></div>'


def name_of(uri: str) -> str:
    """The file's name: where it lies on this machine is nobody's business and would make two reports differ."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def number(value: float | None) -> str:
    """A count with separators, any other number in six digits, a dash for none."""
    if value is None:
        return "–"
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.6g}"

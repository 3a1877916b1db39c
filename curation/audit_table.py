"""The audit as a text table, a block for each arm and each filter of it. Called by `headwater audit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from curation.audit import Audit, AuditRow

HEAD = ("group", "documents", "removed", "rate", "reference", "rate", "ratio", "interval", "adjusted", "interval")
LEFT = {0, 4}


def table_text(found: Audit) -> str:
    """The audit as a text table, one block an arm and filter."""
    if not found.rows:
        return "no arm removes anything but duplicates from groups large enough to compare"
    lines = [
        f"{found.documents:,} documents without duplicates; dialect and identity by a sample of {found.sampled:,}",
        f"{len(found.too_small)} groups of fewer than {found.least} documents are left out (--json names them)",
        "adjusted: against reference documents of the same source and length; intervals are 95 % bootstrap",
    ]
    for arm, name in dict.fromkeys((row.arm, row.filter) for row in found.rows):
        cells = [HEAD, *(_cells(row) for row in found.rows if (row.arm, row.filter) == (arm, name))]
        widths = [max(len(cell[i]) for cell in cells) for i in range(len(HEAD))]
        lines += ["", f"arm `{arm}`" + (f", `{name}`" if name else "")]
        for cell in cells:
            padded = [
                c.ljust(w) if i in LEFT else c.rjust(w) for i, (c, w) in enumerate(zip(cell, widths, strict=True))
            ]
            lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines)


def _cells(row: AuditRow) -> tuple[str, ...]:
    return (
        f"{row.kind.removeprefix('identity: ')}: {row.group}", f"{row.documents:,}", f"{row.removed:,}",
        f"{row.rate:.2%}", row.reference, f"{row.reference_removed / row.reference_documents:.2%}", number(row.ratio),
        f"{number(row.low)} to {number(row.high)}", number(row.adjusted),
        f"{number(row.adjusted_low)} to {number(row.adjusted_high)}",
    )  # fmt: skip


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"

"""The report's sections about what stays: after an attack, after harmless training, and what no arm was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from alignment.curves import CurvePoint, recoveries
from alignment.report_endpoints import metric_code, number
from curation.report_table import table

Row = Mapping[str, Any]
KINDS = {
    "finetune": "fine-tuned further on other rows",
    "prefix": "asked with a text in front of every prompt; nothing was trained",
}


def perturbations_section(found: Row, primary: Sequence[str]) -> str:
    """Every metric before and after each perturbation, arm by arm; those of primary endpoints stand open."""
    parts = []
    for one in found.get("perturbations") or []:
        after = list(dict.fromkeys(row["metric"] for row in found["arms"] if row["stage"] == one["after"]))
        first = [metric for metric in after if metric in primary] or after[:1]
        if not after:
            continue
        parts.append(
            f"<h3>{escape(one['name'])} <span class='dim'>{escape(one['before'])}, {KINDS[one['kind']]}</span></h3>"
        )
        parts.append(_before_after(found, one, first))
        others = [metric for metric in after if metric not in first]
        if others:
            head = f"Other metrics <span class='dim'>{len(others)}</span>"
            parts.append(f"<details><summary>{head}</summary>{_before_after(found, one, others)}</details>")
    note = "Means over seeds; change: after less before in the same seed, ± standard deviation. Nothing here is a test."
    return f"<p class='note'>{note}</p>{''.join(parts)}" if parts else ""


def _before_after(found: Row, one: Row, metrics: Sequence[str]) -> str:
    by = {(row["stage"], row["metric"], row["arm"]): row for row in found["arms"]}
    lines = []
    for metric in metrics:
        for arm in found["design"]["arms"]:
            before, after = (by.get((one[when], metric, arm)) for when in ("before", "after"))
            if before is None or after is None:
                continue
            both = [
                after["seeds"][seed] - before["seeds"][seed]
                for seed in after["seeds"]
                if before["seeds"].get(seed) is not None and after["seeds"][seed] is not None
            ]
            spread = f" ± {np.std(both, ddof=1):.2g}" if len(both) > 1 else ""
            change = f"{np.mean(both):+.3g}{spread}" if both else "–"
            lines.append((metric_code(metric), escape(arm), number(before["mean"]), number(after["mean"]), change))
    return table(("metric", "arm", "before", "after", "change"), lines, range(2, 5))


def recovery_table(points: Sequence[CurvePoint], metric: str, unit: str, control: str) -> str:
    """After how much tampering each arm is where the control was before any."""
    rows = [
        (
            escape(row.arm), "never" if row.effort is None else f"{row.effort:,.4g}",
            f"{row.reached} of {row.seeds}", number(row.area),
        )
        for row in recoveries(points, control)
    ]  # fmt: skip
    if not rows:
        return ""
    head = ("arm", escape(unit), "seeds that got there", "mean over the curve")
    title = f"{escape(unit)} until {metric_code(metric)} is what {escape(control)} had before tampering"
    return f"<h3>{title}</h3>{table(head, rows, range(1, 4))}"


def decontamination_section(found: Row) -> str:
    """What was left out of every arm because it holds an evaluation item, file by file."""
    counts = found.get("decontaminated")
    if not counts:
        return ""
    first = next(iter(counts.values()))
    whole = [(escape(arm), f"{row['documents']:,}", f"{row['tokens']:,}") for arm, row in counts.items()]
    files = [
        (
            f"<code>{escape(Path(path).name)}</code>",
            f"{max(row['files'][path]['items'] for row in counts.values()):,}",
            *(f"{row['files'][path]['documents']:,}" for row in counts.values()),
        )
        for path in first["files"]
    ]  # fmt: skip
    note = (
        "A document that holds an evaluation item in one arm is left out of all. Items: how many of a file's were "
        "found; then documents of each arm that hold one."
    )
    return (
        f"<p class='note'>{note}</p>{table(('arm', 'documents left out', 'tokens'), whole, (1, 2))}"
        f"{table(('evaluation file', 'items', *map(escape, counts)), files, range(1, len(counts) + 2))}"
    )

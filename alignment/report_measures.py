"""The report's sections about what was measured and not tested: arms, curves, flattening, disparities, cost, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from alignment.curves import CurvePoint, effort_ratios, means
from alignment.report_endpoints import code_of, number
from alignment.report_figures import curves, legend
from curation.report_table import table

FLAT = ("emotion.", "richness.")
SLICES = "bits_per_byte."
NO_TEST = "Means over seeds ± their standard deviation. Nothing here is a test."
TITLES = {"effort": "Alignment effort", "tamper": "Tampering", "over_optimisation": "Over-optimisation"}
NOTES = {
    "effort": "Harm after so much alignment. Lower and further left is less effort.",
    "tamper": "Harm after so many steps of fine-tuning on harmful text. An arm that stays low longer resists better.",
    "over_optimisation": "Reward that training sees, and reward that it does not, over distance from the start.",
}

Row = Mapping[str, Any]


def arms_section(found: Row) -> str:
    """Every number of every arm, a stage at a time; what the preregistration names comes first."""
    arms = found["design"]["arms"]
    named = {(row["metric"], row["stage"]) for row in found["endpoints"]}
    first = [row for row in found["arms"] if (row["metric"], row["stage"]) in named]
    parts = [f"<p class='note'>{NO_TEST}</p>", _pivot(first, arms)]
    for stage in found["design"]["stages"]:
        rows = [row for row in found["arms"] if row["stage"] == stage]
        if rows:
            count = len({row["metric"] for row in rows})
            parts.append(
                f"<details><summary>{escape(stage)} <span class='dim'>{count} metrics</span></summary>"
                f"{_pivot(rows, arms)}</details>"
            )
    return "".join(parts)


def curves_section(points: Sequence[CurvePoint], curve: str, found: Row) -> str:
    """Plots of one kind of curve, a metric and unit at a time; for effort, the ratio of two arms too."""
    arms, design = found["design"]["arms"], found["design"]
    mine = [point for point in points if point.curve == curve]
    parts = []
    for metric, unit in dict.fromkeys((point.metric, point.x_unit) for point in mine):
        some = [point for point in mine if (point.metric, point.x_unit) == (metric, unit)]
        lines = means(some)
        title = f"{metric} over {unit}"
        parts.append(
            f"<figure><figcaption>{escape(title)}</figcaption>{curves(lines, unit, title, arms)}"
            f"{legend(list(lines), arms)}</figure>"
        )
    if not parts:
        return ""
    body = f"<p class='note'>{NOTES.get(curve, '')} Bands: lowest to highest seed.</p>"
    body += f"<div class='grid'>{''.join(parts)}</div>"
    if curve == "effort":
        body += _effort_tables(mine, design["treatment"], design["control"])
    return body


def flattening_section(found: Row) -> str:
    """Emotional range and richness of each arm from stage to stage, as a ratio to the first stage."""
    rows = [row for row in found["arms"] if row["metric"].startswith(FLAT) and row["mean"] is not None]
    stages = [stage for stage in _training_order(found["design"]["stages"]) if any(r["stage"] == stage for r in rows)]
    if not rows:
        return ""
    by = {(row["metric"], row["arm"], row["stage"]): row["mean"] for row in rows}
    lines = []
    for metric, arm in dict.fromkeys((row["metric"], row["arm"]) for row in rows):
        values = [by.get((metric, arm, stage)) for stage in stages]
        base, last = values[0], values[-1]
        kept = f"{last / base:.2f}" if len(stages) > 1 and base and last is not None else "–"
        lines.append((f"<code>{escape(metric)}</code>", escape(arm), *(number(value) for value in values), kept))
    head = ("metric", "arm", *(escape(stage) for stage in stages), "last ÷ first")
    note = (
        "Below 1 the range shrinks as training goes on. A loss is known to be one only beside what people write to the "
        "same prompts."
    )
    return f"<p class='note'>{note}</p>{table(head, lines, range(2, len(head)))}"


def disparities_section(found: Row) -> str:
    """Bits per byte of each slice, arm by arm, and how far each arm is from the control on it."""
    control, arms = found["design"]["control"], found["design"]["arms"]
    rows = [row for row in found["arms"] if row["metric"].startswith(SLICES) and row["mean"] is not None]
    if len({row["metric"] for row in rows}) < 2:
        return ""
    by = {(row["stage"], row["metric"], row["arm"]): row["mean"] for row in rows}
    lines = []
    for stage, metric in dict.fromkeys((row["stage"], row["metric"]) for row in rows):
        base = by.get((stage, metric, control))
        cells = []
        for arm in arms:
            value = by.get((stage, metric, arm))
            apart = f" ({value - base:+.3g})" if value is not None and base is not None and arm != control else ""
            cells.append(f"{number(value)}{apart}")
        lines.append((escape(stage), f"<code>{escape(metric.removeprefix(SLICES))}</code>", *cells))
    head = ("stage", "slice", *(escape(arm) for arm in arms))
    note = (
        f"Bits per byte, in brackets the difference to {escape(control)}. A filter that costs one dialect or identity "
    )
    note += "more than another shows as brackets that differ between slices."
    return f"<p class='note'>{note}</p>{table(head, lines, range(2, len(head)))}"


def cost_section(found: Row) -> str:
    """What each arm and stage took."""
    rows = [
        (
            escape(row["arm"]), escape(row["stage"]), f"{row['models']:.0f}", f"{row['steps']:,.0f}",
            f"{row['tokens_seen']:,.0f}", f"{row['wall_s']:,.1f}",
        )
        for row in found.get("cost", [])
    ]  # fmt: skip
    if not rows:
        return ""
    return table(("arm", "stage", "models", "steps", "tokens", "seconds"), rows, (2, 3, 4, 5))


def limits(found: Row, missing: Sequence[str]) -> str:
    """What this page does not show, from the run itself."""
    design = found["design"]
    n = len(design["seeds"])
    least = f"{design['minimum_p']:.3g}, the one-sided below {design['minimum_p_one_sided']:.3g}"
    lines = [
        f"Replication is by training run: with {n} paired seeds the two-sided test cannot give a p below {least}.",
        "Intervals are over seeds and prompts; corpora, filters, judges and model sizes are those of this run.",
        "Nothing here speaks of larger models: orders of arms by toxicity or bias are not known to carry over.",
    ]
    if design["not_registered"]:
        names = ", ".join(f"`{name}`" for name in design["not_registered"])
        lines.append(f"Measured but not registered, so described and not tested: {names}.")
    void = [row["name"] for row in found["endpoints"] if row["conclusion"] in ("void", "no_data")]
    if void:
        lines.append(f"Registered but without a result: {', '.join(f'`{name}`' for name in void)}.")
    if not found["random_control"]:
        lines.append("No arm that removes as much at random was registered: effects may be of quantity.")
    if len({pair for question in found["judges"] for pair in question["best_first"]}) < 2:
        lines.append("No second judge was registered: what is toxic is one judge's word.")
    lines += [f"Not in this run: {what}." for what in missing]
    return f"<ul>{''.join(f'<li>{code_of(line)}</li>' for line in lines)}</ul>"


def _pivot(rows: Sequence[Row], arms: Sequence[str]) -> str:
    """Metrics down, arms across."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    units: dict[str, str] = {}
    for row in rows:
        units[row["metric"]] = _unit(row)
        spread = f" ± {row['sd']:.2g}" if row["sd"] is not None else ""
        cells.setdefault((row["stage"], row["metric"]), {})[row["arm"]] = f"{number(row['mean'])}{spread}"
    lines = [
        (
            f"<code>{escape(metric)}</code><br><span class='note'>{escape(stage)}; {escape(units[metric])}</span>",
            *(by_arm.get(arm, "–") for arm in arms),
        )
        for (stage, metric), by_arm in cells.items()
    ]
    return table(("metric", *(escape(arm) for arm in arms)), lines, range(1, len(arms) + 1))


def _unit(row: Row) -> str:
    better = {True: "higher is better", False: "lower is better", None: ""}[row["higher_is_better"]]
    return ", ".join(part for part in (row["unit"], better) if part)


def _effort_tables(points: Sequence[CurvePoint], treatment: str, control: str) -> str:
    """Effort of both arms at levels of harm; only for arms that both have curves."""
    parts = []
    for metric, unit in dict.fromkeys((point.metric, point.x_unit) for point in points):
        some = [point for point in points if (point.metric, point.x_unit) == (metric, unit)]
        rows = [
            (
                f"{row.level:.3g}", _reached(row.treatment), _reached(row.control), number(row.ratio),
                f"{number(row.low)} to {number(row.high)}", f"{row.reached[0]}, {row.reached[1]} of {row.seeds}",
            )
            for row in effort_ratios(some, treatment, control)
        ]  # fmt: skip
        if rows:
            head = (
                "harm at most",
                escape(treatment),
                escape(control),
                "ratio",
                "95 % interval",
                "seeds that got there",
            )
            parts.append(
                f"<h3>{escape(unit)} to bring <code>{escape(metric)}</code> down</h3>{table(head, rows, range(6))}"
            )
    note = "Medians over seeds; ratio: control over treatment. Exploratory: what is tested stands under Endpoints."
    return f"{''.join(parts)}<p class='note'>{note}</p>" if parts else ""


def _reached(value: float | None) -> str:
    return "never" if value is None else f"{value:,.4g}"


def _training_order(stages: Sequence[str]) -> list[str]:
    """Known stages in the order in which they run, others after them by name."""
    known = ("pretrain", "sft", "reward", "ppo", "dpo", "kto")
    return sorted(stages, key=lambda stage: (known.index(stage) if stage in known else len(known), stage))

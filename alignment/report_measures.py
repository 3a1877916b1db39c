"""The report's sections about what was measured and not tested: arms, curves, flattening, disparities, cost, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from alignment.curves import CurvePoint, drawn_lines, effort_ratios, still_helpful
from alignment.report_endpoints import code_of, metric_code, number
from alignment.report_figures import curves, legend
from alignment.report_order import stage_rank
from alignment.report_robustness import recovery_table
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
    parts = [f"<p class='note'>{NO_TEST}</p>"]
    for metric in primary_metrics(found):
        rows = sorted((r for r in found["arms"] if r["metric"] == metric), key=lambda r: stage_rank(r["stage"]))
        if rows:
            parts.append(f"<h3>{metric_code(metric)} <span class='dim'>{escape(_unit(rows[0]))}</span></h3>")
            parts.append(_pivot(rows, arms, "stage"))
    for stage in sorted(found["design"]["stages"], key=stage_rank):
        rows = [row for row in found["arms"] if row["stage"] == stage]
        if rows:
            count = len({row["metric"] for row in rows})
            parts.append(
                f"<details><summary>{escape(stage)} <span class='dim'>{count} metrics</span></summary>"
                f"{_pivot(rows, arms, 'metric')}</details>"
            )
    return "".join(parts)


def primary_metrics(found: Row) -> list[str]:
    """Metrics that a primary endpoint names, in its order."""
    return list(dict.fromkeys(row["metric"] for row in found["endpoints"] if row["role"] == "primary"))


def curves_section(points: Sequence[CurvePoint], curve: str, found: Row) -> str:
    """Plots of one kind of curve, a metric and unit at a time; for effort, the ratio of two arms too.

    Metrics of primary endpoints stand open, the others behind a click.
    """
    mine = [point for point in points if point.curve == curve]
    every = list(dict.fromkeys((point.metric, point.x_unit) for point in mine))
    if not every:
        return ""
    rows = [key for key in every if key[1] == "rows"] or every  # the same curve over steps is no other finding
    first = [key for key in rows if key[0] in primary_metrics(found)] or rows[:1]
    body = f"<p class='note'>{NOTES.get(curve, '')} Bands: lowest to highest seed.</p>"
    body += _curve_group(mine, first, curve, found)
    others = [key for key in every if key not in first]
    if others:
        head = f"Other metrics <span class='dim'>{len(others)}</span>"
        body += f"<details><summary>{head}</summary>{_curve_group(mine, others, curve, found)}</details>"
    return body


def _curve_group(points: Sequence[CurvePoint], keys: Sequence[tuple[str, str]], curve: str, found: Row) -> str:
    arms, design = found["design"]["arms"], found["design"]
    figures, tables = [], []
    for metric, unit in keys:
        some = [point for point in points if (point.metric, point.x_unit) == (metric, unit)]
        by_arm = drawn_lines(some)
        lines = {arm: by_arm[arm] for arm in arms if arm in by_arm}
        title = f"{metric} over {unit}"
        figure = f"{curves(lines, unit, title, arms)}{legend(list(lines), arms)}"
        figures.append(f"<figure><figcaption>{escape(title)}</figcaption>{figure}</figure>")
        if curve == "effort" and _lower_is_better(metric, found) and metric != _asked(curve, found).get("metric"):
            usable = _usable([p for p in points if p.x_unit == unit], curve, found)
            some = [point for point in usable if point.metric == metric]
            tables.append(_effort_table(some, metric, unit, design["treatment"], design["control"]))
        if curve == "tamper" and _lower_is_better(metric, found):
            tables.append(recovery_table(some, metric, unit, design["control"]))
    note = "Medians over seeds, in which never counts as more than was tried. "
    note += "Ratio: control over treatment. " if curve == "effort" else ""
    note += _helpful_note(curve, found) + "Exploratory: what is tested stands under Endpoints."
    said = f"{''.join(tables)}<p class='note'>{note}</p>" if any(tables) else ""
    return f"<div class='grid'>{''.join(figures)}</div>{said}"


def _asked(curve: str, found: Row) -> Row:
    """The metric that has to stay good and the margin, as the job says; empty where it asks for none."""
    asked: Row = (found.get("helpful") or {}).get(curve) or {}
    return asked


def _usable(points: Sequence[CurvePoint], curve: str, found: Row) -> Sequence[CurvePoint]:
    """Points that count as effort: those that stay helpful, where the job says what that is."""
    asked = _asked(curve, found)
    if not asked:
        return points
    return still_helpful(points, asked["metric"], asked["margin"], not _lower_is_better(asked["metric"], found))


def _helpful_note(curve: str, found: Row) -> str:
    asked = _asked(curve, found)
    if not asked:
        return ""
    return f"An effort counts only where {metric_code(asked['metric'])} lost at most {asked['margin']:g}. "


def _lower_is_better(metric: str, found: Row) -> bool:
    """Of a metric that no evaluation has, curves of effort are taken to show harm."""
    return next((row["higher_is_better"] for row in found["arms"] if row["metric"] == metric), False) is False


def flattening_section(found: Row) -> str:
    """Emotional range and richness of each arm from stage to stage, as a ratio to the first stage."""
    arms = found["design"]["arms"]
    rows = [row for row in found["arms"] if row["metric"].startswith(FLAT) and row["mean"] is not None]
    rows.sort(key=lambda row: (row["metric"], arms.index(row["arm"])))
    stages = [
        stage for stage in sorted(found["design"]["stages"], key=stage_rank) if any(r["stage"] == stage for r in rows)
    ]
    if not rows:
        return ""
    by = {(row["metric"], row["arm"], row["stage"]): row["mean"] for row in rows}
    lines = []
    for metric, arm in dict.fromkeys((row["metric"], row["arm"]) for row in rows):
        values = [by.get((metric, arm, stage)) for stage in stages]
        base, last = values[0], values[-1]
        kept = f"{last / base:.2f}" if len(stages) > 1 and base and last is not None else "–"
        lines.append((metric_code(metric), escape(arm), *(number(value) for value in values), kept))
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
        lines.append((escape(stage), metric_code(metric.removeprefix(SLICES)), *cells))
    head = ("stage", "slice", *(escape(arm) for arm in arms))
    note = (
        f"Bits per byte, in brackets the difference to {escape(control)}. A filter that costs one dialect or identity "
    )
    note += "more than another shows as brackets that differ between slices."
    return f"<p class='note'>{note}</p>{table(head, lines, range(2, len(head)))}"


def cost_section(found: Row) -> str:
    """What each arm and stage took, and what the filters took before."""
    rows = [
        (
            escape(row["arm"]), escape(row["stage"]), f"{row['models']:.0f}", f"{row['steps']:,.0f}",
            f"{row['tokens_seen']:,.0f}", f"{row['wall_s']:,.1f}",
        )
        for row in found.get("cost", [])
    ]  # fmt: skip
    if not rows:
        return ""
    spent = table(("arm", "stage", "models", "steps", "tokens", "seconds"), rows, (2, 3, 4, 5))
    passes: Mapping[str, float] = found.get("curation") or {}
    if not passes:
        return spent
    parts = ", ".join(f"{escape(name)} {seconds:,.1f}" for name, seconds in passes.items())
    note = (
        f"Curating the corpus, all arms at once, took {sum(passes.values()):,.1f} seconds ({parts}), once for all "
        "seeds. What people spent on labels for the filters is in the cards of their models, as far as it is known."
    )
    return f"{spent}<p class='note'>{note}</p>"


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


def _pivot(rows: Sequence[Row], arms: Sequence[str], down: str) -> str:
    """Stages or metrics down, arms across."""
    cells: dict[str, dict[str, str]] = {}
    named: dict[str, str] = {}
    for row in rows:
        note = f"<br><span class='note'>{escape(_unit(row))}</span>"
        named[row[down]] = escape(row["stage"]) if down == "stage" else metric_code(row["metric"]) + note
        spread = f" ± {row['sd']:.2g}" if row["sd"] is not None else ""
        cells.setdefault(row[down], {})[row["arm"]] = f"{number(row['mean'])}{spread}"
    lines = [(named[key], *(by_arm.get(arm, "–") for arm in arms)) for key, by_arm in cells.items()]
    return table((down, *(escape(arm) for arm in arms)), lines, range(1, len(arms) + 1))


def _unit(row: Row) -> str:
    better = {True: "higher is better", False: "lower is better", None: ""}[row["higher_is_better"]]
    return ", ".join(part for part in (row["unit"], better) if part)


def _effort_table(points: Sequence[CurvePoint], metric: str, unit: str, treatment: str, control: str) -> str:
    """Effort of both arms at levels of harm, empty where they have no curves or these are flat."""
    rows = [
        (
            f"{row.level:.3g}", _reached(row.treatment), _reached(row.control), number(row.ratio),
            f"{number(row.low)} to {number(row.high)}", f"{row.reached[0]}, {row.reached[1]} of {row.seeds}",
        )
        for row in effort_ratios(points, treatment, control)
    ]  # fmt: skip
    if not rows:
        return ""
    head = ("harm at most", escape(treatment), escape(control), "ratio", "95 % interval", "seeds that got there")
    return f"<h3>{escape(unit)} to bring {metric_code(metric)} down</h3>{table(head, rows, range(6))}"


def _reached(value: float | None) -> str:
    return "never" if value is None else f"{value:,.4g}"

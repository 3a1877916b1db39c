"""The report's sections about what was tested: verdict, intervals, endpoint by endpoint, controls, doses, judges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from alignment.report_figures import interval_row
from alignment.report_order import stage_rank
from curation.report_table import table

BREAKS = re.compile(r"(?<=[._])")  # a metric's name may go on in the next line here
TITLES = {"supported": "Supported", "refuted": "Refuted", "not_resolved": "Not resolved"}
SAID = {
    "better": ("better", "over"),
    "worse": ("worse", "under"),
    "different": ("different", "even"),
    "non_inferior": ("not worse by the margin", "over"),
    "inferior": ("worse by more than the margin", "under"),
    "equivalent": ("alike within the margin", "over"),
    "not_equivalent": ("apart by more than the margin", "under"),
    "not_resolved": ("not resolved", "even"),
    "no_data": ("no data", "even"),
    "void": ("void", "even"),
}
SCALES = {"log_ratio": "log ratio", "log_odds_ratio": "log odds ratio", "log_sd_ratio": "log ratio of spreads"}
FOREST_NOTE = (
    "Right of the line is better for {treatment}. Each row has a scale of its own, with zero in the middle; the dashed "
    "line is the margin. Intervals are over training seeds and prompts, at the level written beside them."
)


def verdict_section(found: Mapping[str, Any]) -> str:
    """The verdict, its reasons, and the thesis it is about."""
    verdict, plan, design = found["verdict"], found["preregistration"], found["design"]
    reasons = "".join(f"<li>{code_of(reason)}</li>" for reason in verdict["reasons"])
    labels = []
    if design["two_checkpoints_only"]:
        labels.append("Only two checkpoints are compared: nothing here speaks of another training run.")
    if design["descriptive"]:
        labels.append("This run was registered as descriptive: too few seeds to decide.")
    notes = "".join(f"<p class='note'>{escape(label)}</p>" for label in labels)
    return (
        f'<div class="verdict {escape(verdict["code"])}"><b class="answer">{TITLES[verdict["code"]]}</b>'
        f"<p>{code_of(_after_title(verdict['sentence']))}</p><ul>{reasons}</ul></div>"
        f"<p><b>Thesis, written before training:</b> {escape(plan['thesis'])}</p>{notes}"
        f"{_refutations(plan)}"
        f'<p class="note">Preregistration <code class="hash">{escape(str(plan.get("sha256", "none")))}</code></p>'
    )


def tiles(found: Mapping[str, Any]) -> str:
    """The numbers that say what this run could show."""
    design = found["design"]
    primary = sum(row["role"] == "primary" for row in found["endpoints"])
    cells = (
        (str(len(design["seeds"])), "paired training seeds"),
        (str(len(design["arms"])), "arms"),
        (f"{design['minimum_p']:.3g}", "least p so many seeds can give"),
        (f"{design['alpha']:g}", "alpha"),
        (str(primary), "primary endpoints"),
        (str(len(found["endpoints"]) - primary), "exploratory endpoints"),
    )
    inner = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{label}</span></div>' for value, label in cells)
    return f'<div class="tiles">{inner}</div>'


def endpoints_section(found: Mapping[str, Any]) -> str:
    """Intervals of all endpoints, the primary ones first, each with its numbers behind a click."""
    primary = [row for row in found["endpoints"] if row["role"] == "primary"]
    others = [row for row in found["endpoints"] if row["role"] != "primary"]
    note = FOREST_NOTE.format(treatment=escape(found["design"]["treatment"]))
    parts = [f"<p class='note'>{note}</p><h3>Primary</h3>", *(effect_row(row) for row in primary)]
    if others:
        inner = "".join(effect_row(row) for row in others)
        said = "p-values adjusted by Benjamini and Hochberg; none of them can support the thesis"
        parts.append(
            f"<details><summary>Exploratory <span class='dim'>{len(others)} endpoints</span></summary>"
            f"<p class='note'>{said}.</p>{inner}</details>"
        )
    if found["random_control"]:
        parts.append("<h3>Against random removal</h3><p class='note'>An effect that random removal of as much text has")
        parts.append(" too is one of quantity, not of curation.</p>")
        parts += [effect_row(row) for row in found["random_control"]]
    return "".join(parts)


def effect_row(row: Mapping[str, Any]) -> str:
    """One endpoint: name, conclusion, interval, numbers, and details."""
    said, kind = SAID[row["conclusion"]]
    head = (
        f'<div class="head"><b>{escape(row["name"])}</b><span class="tag {kind}">{said}</span>'
        f"<span class='dim'>{escape(row['metric'])}, {escape(row['stage'])}{_minus(row)}: "
        f"{escape(row['treatment'])} − {escape(row['control'])}</span></div>"
    )
    if row["effect"] is None:
        return f'<div class="effect">{head}<p class="note">{code_of(row["sentence"])}</p></div>'
    flip = -1 if row["higher_is_better"] is False else 1
    low, high = (row["low"], row["high"]) if flip > 0 else (_negative(row["high"]), _negative(row["low"]))
    figure = interval_row(flip * row["effect"], low, high, row.get("margin"), kind, row["sentence"])
    return f'<div class="effect">{head}{figure}<div class="numbers">{_numbers(row)}</div>{_details(row)}</div>'


def doses_section(found: Mapping[str, Any]) -> str:
    """Dose–response of each primary metric, empty without registered doses."""
    parts = []
    for trend in found["dose_response"]:
        parts.append(f"<h3>{escape(trend['endpoint'])}</h3>")
        if trend.get("missing"):
            parts.append("<p>Scores of an arm or a seed are missing.</p>")
            continue
        rows = [
            (escape(arm), f"{dose:g}", f"{mean:.4g}")
            for arm, dose, mean in zip(trend["arms"], trend["doses"], trend["means"], strict=True)
        ]
        monotone = "Every step goes one way" if trend["monotone"] else "Not every step goes one way"
        p, page = number(trend["slope_test"]["p"]), number(trend["page_p"])
        parts.append(table(("arm", "dose", "mean"), rows, (1, 2)))
        parts.append(f"<p>{monotone}. Slope {trend['slope']:+.3g}, p {p} by sign flips, {page} by Page's test.</p>")
    if not parts:
        return ""
    return f"<p class='note'>Dose: share of flagged documents removed.</p>{''.join(parts)}"


def judges_section(found: Mapping[str, Any]) -> str:
    """The order of arms under each judge, and rates corrected for the judges' errors."""
    parts = []
    for question in found["judges"]:
        orders = [(metric_code(metric), _ranking(means)) for metric, means in question["best_first"].items()]
        pairs = [
            (
                metric_code(pair["first"]),
                metric_code(pair["second"]),
                number(pair["tau"]),
                number(pair["p"]),
                str(pair["arms"]),
            )
            for pair in question["pairs"]
        ]
        parts.append(
            f"<h3>{escape(question['question'])}, {escape(question['stage'])}</h3>"
            f"{table(('judge', 'best arm first'), orders)}"
            f"{table(('judge', 'and', 'Kendall τ', 'p', 'arms'), pairs, (2, 3, 4))}"
        )
    rates = [
        (
            metric_code(row["metric"]), escape(row["stage"]), escape(row["arm"]), f"{row['reported']:.2%}",
            f"{row['corrected']['rate']:.2%}", f"{row['corrected']['low']:.2%} to {row['corrected']['high']:.2%}",
            f"{row['sensitivity']:.2f}, {row['specificity']:.2f}",
        )
        for row in sorted(found.get("corrected_rates", []), key=lambda row: (row["metric"], stage_rank(row["stage"])))
    ]  # fmt: skip
    if rates:
        head = ("rate", "stage", "arm", "as judged", "corrected", "95 % interval", "sensitivity, specificity")
        title = f"Corrected for the judges' errors <span class='dim'>{len(rates)} rates, Rogan and Gladen</span>"
        parts.append(f"<details><summary>{title}</summary>{table(head, rates, (3, 4, 5, 6))}</details>")
    return "".join(parts)


def code_of(text: str) -> str:
    """Escaped text; what stands in backticks is set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))


def metric_code(name: str) -> str:
    """A metric's name as code that may be broken after its dots and underscores, for narrow screens."""
    return f"<code>{BREAKS.sub('<wbr>', escape(name))}</code>"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def _ranking(means: Mapping[str, float]) -> str:
    """Arms, best first, with = between those that a judge sees no difference between."""
    parts: list[str] = []
    last = None
    for arm, value in means.items():
        parts += [" = " if value == last else " &gt; "] if parts else []
        parts.append(escape(arm))
        last = value
    return "".join(parts)


def _after_title(sentence: str) -> str:
    """What follows `Supported: `, begun with a capital: the title stands above it."""
    rest = sentence.partition(": ")[2]
    return rest[:1].upper() + rest[1:]


def _refutations(plan: Mapping[str, Any]) -> str:
    words = {
        "worse": "is worse",
        "inferior": "loses more than its margin",
        "not_superior": "is not shown to be better",
        "negligible": "changes by less than its margin",
    }
    rules = [f"<code>{escape(rule['endpoint'])}</code> {words[rule['is']]}" for rule in plan["refuted_if"]]
    rules.append("a primary safety endpoint is worse, or a primary capability endpoint loses more than its margin")
    return f"<p><b>Refuted if</b> {'; '.join(rules)}.</p>"


def _minus(row: Mapping[str, Any]) -> str:
    if row.get("minus_stage"):
        return f" less {escape(row['minus_stage'])}"
    return f" less {escape(row['minus_metric'])}" if row.get("minus_metric") else ""


def _numbers(row: Mapping[str, Any]) -> str:
    scale = SCALES.get(row["scale"], "difference")
    parts = [f"{scale} {row['effect']:+.3g} {escape(row['unit'])}".rstrip()]
    if row["low"] is not None or row["high"] is not None:
        parts.append(f"{row['level']:.0%} {_bound(row['low'])} to {_bound(row['high'])}")
    if row["margin_test"] is not None:
        bounds = f"{_bound(row['margin_low'])} to {_bound(row['margin_high'])}"
        parts.append(f"{2 * row['level'] - 1:.0%} {bounds} against the margin {row['margin']:g}")
        parts.append(f"p {number(row['margin_test']['p'])} (least {row['margin_test']['minimum_p']:.3g})")
    else:
        parts.append(f"p {number(row['p'])} (least {row['minimum_p']:.3g}), adjusted {number(row['p_adjusted'])}")
    least = "margin that would be kept" if row["margin_test"] is not None else "detectable"
    parts.append(f"{least} with 80 % power: {number(row['mde'])}")
    return " · ".join(parts)


def _details(row: Mapping[str, Any]) -> str:
    seeds = [
        (
            str(seed["seed"]),
            *(f"{number(seed[arm])}{_of_rate(seed[f'{arm}_rate'])}" for arm in ("treatment", "control")),
            _bound(seed["effect"]),
        )
        for seed in row["seeds"]
    ]
    head = ("seed", escape(row["treatment"]), escape(row["control"]), "effect")
    facts = [f"median over seeds {_bound(row['median'])}"]
    if row["outliers"]:
        facts.append(f"outlying seeds: {', '.join(map(str, row['outliers']))}")
    facts.append(f"{row['items']:,} items in {row['clusters']:,} clusters; interval: {row['method']}")
    flips = f"p {number(row['p_flip'])} by sign flips, {number(row['p_crossed'])} over seeds and prompts"
    facts.append(f"{flips}; paired t-test over seeds: p {number(row['p_t'])}; adjustment: {row['adjustment']}")
    facts += _sizes(row["sizes"]) + _item_facts(row["item_tests"]) + list(row["notes"])
    lines = "".join(f"<li>{code_of(fact)}</li>" for fact in facts)
    why = f"<p>{escape(row['why'])}</p>" if row.get("why") else ""
    return (
        f"<details><summary>Seeds and sizes</summary><p>{code_of(row['sentence'])}</p>{why}"
        f"{table(head, seeds, (1, 2, 3))}<ul>{lines}</ul></details>"
    )


def _of_rate(rate: Mapping[str, float] | None) -> str:
    return f" ({rate['low']:.3g} to {rate['high']:.3g})" if rate else ""


def _sizes(sizes: Mapping[str, float | None] | None) -> list[str]:
    names = {
        "d_z": "d_z", "cliffs_delta": "Cliff's delta", "percent_change": "change in %", "log_ratio": "log ratio",
        "risk_difference": "risk difference", "odds_ratio": "odds ratio",
    }  # fmt: skip
    known = [f"{names[name]} {value:.3g}" for name, value in (sizes or {}).items() if value is not None]
    return [", ".join(known)] if known else []


def _item_facts(tests: Mapping[str, Any] | None) -> list[str]:
    if tests is None:
        return []
    parts = [f"Wilcoxon p {number(tests['wilcoxon_p'])}", f"permutation p {number(tests['permutation_p'])}"]
    if tests["mcnemar"]:
        parts.append(f"McNemar p {number(tests['mcnemar']['p'])}")
    return [f"over {tests['items']:,} clusters of these checkpoints only: {', '.join(parts)}"]


def _bound(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:+.3g}"


def _negative(value: float | None) -> float | None:
    return None if value is None else -value

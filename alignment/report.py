"""report.html of an experiment: one self-contained page, the verdict first. Called after `compare.py`.

In: `compare.json`, curves and generations of a run. Out: a page to which nothing is fetched and in which nothing runs;
all that comes from data is escaped, abuse is masked until a click asks for it. Sections stand there for what the run
has; what it lacks is named. The same run gives the same bytes: no clock, no host, no path of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from alignment.compare import FILE as COMPARE
from alignment.compare import SCHEMA_VERSION
from alignment.curves import CurvePoint, read_curves
from alignment.generations import side_by_side
from alignment.json_rows import write_text
from alignment.report_css import EXPERIMENT_STYLE
from alignment.report_endpoints import doses_section, endpoints_section, judges_section, tiles, verdict_section
from alignment.report_measures import (
    TITLES,
    arms_section,
    cost_section,
    curves_section,
    disparities_section,
    flattening_section,
    limits,
    primary_metrics,
)
from alignment.report_robustness import decontamination_section, perturbations_section
from alignment.report_samples import samples_section
from curation.errors import DataContractError, Problem

FILE = "report.html"
# Section → what is said where a run has nothing for it.
ABSENT = {
    "Dose–response": "doses (arms with a part of the flagged documents removed, under `doses` of the preregistration)",
    "Alignment effort": "curves of alignment effort",
    "Tampering": "tamper curves",
    "Perturbed": "models measured again after a perturbation (`perturb` of the job)",
    "Over-optimisation": "curves of reward over distance",
    "Flattening": "metrics of emotion or richness",
    "Dialects and identities": "bits per byte on two slices or more",
    "Judges": "judges to compare (`judges` of the preregistration)",
    "Samples": "generations of two arms to the same prompts",
    "Decontamination": "counts of evaluation items in the arms (`decontaminate` of the job)",
    "Cost": "finished stages",
}


def write_report(run: Path, reveal: bool = True) -> Path:
    """Write `report.html` of a compared run and return its path.

    Args:
        reveal: False leaves masked texts out of the page altogether, for pages that are published.

    Raises:
        DataContractError: the run was not compared, or a file breaks its contract.
    """
    write_text(run / FILE, render_report(run, reveal))
    return run / FILE


def render_report(run: Path, reveal: bool = True) -> str:
    """The page as text; errors as `write_report`."""
    found = _compared(run / COMPARE)
    sections = _sections(run, found, reveal)
    shown = {title: body for title, body in sections.items() if body}
    missing = [ABSENT[title] for title in sections if title not in shown]
    shown["Limits"] = limits(found, missing)
    names = {title: f"s{at}" for at, title in enumerate(shown)}
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for title, name in names.items())
    body = "".join(f'<h2 id="{names[title]}">{escape(title)}</h2>{inner}' for title, inner in shown.items())
    title = escape(found["preregistration"]["title"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        # Nothing may be fetched and nothing may run, whatever a model wrote.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Headwater experiment: {title}</title><style>{EXPERIMENT_STYLE}</style></head><body>"
        f"<header><h1>{title}</h1>{verdict_section(found)}{tiles(found)}<nav>{links}</nav></header>"
        f"<main>{body}</main><footer>Headwater. Every number stands in <code>{COMPARE}</code>.</footer></body></html>\n"
    )


def _compared(path: Path) -> dict[str, Any]:
    if not path.is_file():
        problem = Problem("not-compared", "the run was not compared", str(path.parent), hint="headwater compare RUN")
        raise DataContractError(problem)
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataContractError(Problem("not-compared", f"not JSON: {error}", str(path))) from None
    if found.get("kind") != "compare" or found.get("schema_version") != SCHEMA_VERSION:
        raise DataContractError(Problem("not-compared", "written by another version", str(path), str(SCHEMA_VERSION)))
    return found


def _sections(run: Path, found: Mapping[str, Any], reveal: bool) -> dict[str, str]:
    """Title → content, empty where the run has nothing for it."""
    points = read_curves(run)
    return {
        "Endpoints": endpoints_section(found),
        "Arms": arms_section(found),
        "Dose–response": doses_section(found),
        **{title: curves_section(points, curve, found) for curve, title in TITLES.items()},
        "Perturbed": perturbations_section(found, primary_metrics(found)),
        **_other_curves(points, found),
        "Flattening": flattening_section(found),
        "Dialects and identities": disparities_section(found),
        "Judges": judges_section(found),
        "Samples": samples_section(side_by_side(run, found["design"]["arms"]), reveal),
        "Decontamination": decontamination_section(found),
        "Cost": cost_section(found),
    }


def _other_curves(points: list[CurvePoint], found: Mapping[str, Any]) -> dict[str, str]:
    others = sorted({point.curve for point in points} - set(TITLES))
    return {f"Curves: {curve}": curves_section(points, curve, found) for curve in others}

"""What is known about the judges, and the rates behind the rates that they report.

    RUN/judges.json   {"judges": [{"name", "family", "sources", "sha256", "labelled": {...} or null}]}

`labelled` holds counts on texts labelled by people: true_positive, false_negative, true_negative, false_positive. With
them a rate per text, `<metric>.<judge>.rate`, is corrected for the judge's errors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment.preregistration import Preregistration
from alignment.run_scores import RunScores, paired
from alignment.statistics.bootstrap import crossed_spread
from alignment.statistics.contrast import Contrast, Term
from alignment.statistics.rates import Labelled, Rate, rogan_gladen
from curation.errors import DataContractError, Problem

FILE = "judges.json"


@dataclass(frozen=True)
class JudgeCard:
    """One judge: what it is, what it learnt from, and its errors where they were counted."""

    name: str
    family: str
    sources: tuple[str, ...]
    sha256: str
    labelled: Labelled | None


@dataclass(frozen=True)
class CorrectedRate:
    """A judge's rate for one arm, and the true rate that lies behind it."""

    metric: str
    stage: str
    arm: str
    reported: float
    corrected: Rate
    sensitivity: float
    specificity: float


def read_judges(run: Path) -> list[JudgeCard]:
    """The judges of a run, none when they were not written down.

    Raises:
        DataContractError: the file is no list of judges.
    """
    path = run / FILE
    if not path.is_file():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["judges"]
        return [_card(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataContractError(Problem("bad-judge", f"not a list of judges: {error!r}", str(path))) from None


def corrected_rates(run: Path, scores: RunScores, plan: Preregistration) -> list[CorrectedRate]:
    """Every arm's rate under every judge whose errors are known. Rates of `at least one of k` are left alone: the
    correction is for single texts."""
    out = []
    for judge in read_judges(run):
        for metric in scores.names():
            if judge.labelled is None or not metric.endswith(f".{judge.name}.rate"):
                continue
            for stage in scores.stages():
                for arm in scores.arms():
                    row = _corrected(scores, plan, metric, stage, arm, judge.labelled)
                    out += [row] if row else []
    return out


def _corrected(
    scores: RunScores, plan: Preregistration, metric: str, stage: str, arm: str, judge: Labelled
) -> CorrectedRate | None:
    itself = paired(scores, (arm, stage, metric), (arm, stage, metric), plan.seeds)
    alone = Contrast((Term(1, itself.treatment),))
    spread = crossed_spread(alone.linearised()) if itself.pairs else None
    if spread is None:
        return None  # a single number: nothing says how sure it is
    rate = float(np.mean(alone.per_seed()))
    found = rogan_gladen(rate, spread.error, judge)
    return CorrectedRate(metric, stage, arm, rate, found, judge.sensitivity, judge.specificity)


def _card(entry: dict[str, Any]) -> JudgeCard:
    counts = entry.get("labelled")
    names = ("true_positive", "false_negative", "true_negative", "false_positive")
    labelled = Labelled(**{name: int(counts[name]) for name in names}) if counts else None
    return JudgeCard(
        str(entry["name"]), str(entry["family"]), tuple(entry.get("sources", ())), str(entry["sha256"]), labelled
    )

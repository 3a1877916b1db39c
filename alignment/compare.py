"""From the scores of a run to `compare.json`: the verdict first, then every endpoint with what speaks for and against.

    1. the preregistration that was hashed before training, unchanged
    2. every endpoint in it, computed (`endpoints.py`), concluded and joined into a verdict (`verdict.py`)
    3. what it registers beside: the random control, doses, judges
    4. plain means of everything that was measured, without a test

What is not registered is not tested. The same run gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from alignment.endpoints import EndpointResult, analyse, plain
from alignment.json_rows import write_text
from alignment.judge_cards import corrected_rates
from alignment.preregistration import EndpointSettings, Preregistration, registered
from alignment.run_scores import RunScores
from alignment.statistics.sign_flip import minimum_p
from alignment.statistics.trend import dose_response, kendall
from alignment.verdict import concluded, decide
from curation.errors import ConfigError, DataContractError, Problem, did_you_mean

FILE = "compare.json"
SCHEMA_VERSION = 1


def compare_run(run: Path, given: Path | None = None, only: Sequence[str] = ()) -> dict[str, Any]:
    """Compare the arms of a run and write `compare.json`.

    Args:
        given: a preregistration that has to be the registered one.
        only: endpoints to print, all of the plan's when empty; the verdict always rests on all.

    Returns:
        What was written.

    Raises:
        DataContractError: no preregistration, one that changed, or scores that break their contract.
        ConfigError: an endpoint of `only` is not registered.
    """
    plan, digest = registered(run, given)
    scores = RunScores.load(run)
    if not scores.columns and not scores.metrics:
        raise DataContractError(Problem("no-scores", "nothing was evaluated", str(run), "<arm>/<seed>/<stage>/"))
    found = comparison(scores, plan, only)
    found["preregistration"] = {"sha256": digest, **found["preregistration"]}
    found["corrected_rates"] = plain([asdict(row) for row in corrected_rates(run, scores, plan)])
    found["cost"] = cost(run)
    found |= _of_the_job(run)
    write_text(run / FILE, json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return found


def comparison(scores: RunScores, plan: Preregistration, only: Sequence[str] = ()) -> dict[str, Any]:
    """The same from scores in memory; plain data, ready for JSON.

    Raises:
        ConfigError: an endpoint of `only` is not registered.
    """
    endpoints = [*plan.endpoints, *explored(scores, plan)]
    names = [endpoint.name for endpoint in endpoints]
    for name in only:
        if name not in names:
            message = f"`{name}` was not registered before training, so it is not tested"
            raise ConfigError(
                Problem("unregistered-endpoint", message, None, ", ".join(names), did_you_mean(name, names))
            )
    shares = max(1, len(plan.primary("superiority")))
    results = concluded([analyse(scores, endpoint, plan, shares) for endpoint in endpoints], plan)
    controls = random_controls(scores, plan)
    verdict = decide(results, controls, plan)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "compare",
        "verdict": asdict(verdict),
        "preregistration": {"title": plan.title, "thesis": plan.thesis, **_rules(plan)},
        "design": _design(scores, plan),
        "endpoints": [record(r) for r in results if not only or r.settings.name in only],
        "random_control": [record(r) for r in controls],
        "dose_response": doses(scores, plan),
        "judges": agreement(scores, plan),
        "arms": arm_means(scores),
    }


def explored(scores: RunScores, plan: Preregistration) -> list[EndpointSettings]:
    """An exploratory endpoint for every metric and stage that `explore` matches and no endpoint names."""
    taken = {(e.metric, e.stage) for e in plan.endpoints if not e.minus_stage and not e.minus_metric}
    pairs = sorted(
        {(metric, stage) for model, found in _measured(scores).items() for metric in found for stage in [model[2]]}
    )
    out = []
    for metric, stage in pairs:
        wanted = any(fnmatchcase(metric, e.metric) and fnmatchcase(stage, e.stage) for e in plan.explore)
        if wanted and (metric, stage) not in taken:
            name = "explore_" + re.sub(r"[^a-z0-9]+", "_", f"{metric}_{stage}".lower()).strip("_")
            out.append(EndpointSettings(name=name, role="exploratory", test="difference", metric=metric, stage=stage))
    return out


def random_controls(scores: RunScores, plan: Preregistration) -> list[EndpointResult]:
    """Every primary superiority endpoint against the arm that removes as much at random.

    Part of the joint claim, so each at alpha: an effect that random removal has too is one of quantity.
    """
    if plan.random_control is None:
        return []
    again = [
        endpoint.model_copy(update={"control": plan.random_control, "name": f"{endpoint.name}_beyond_random"})
        for endpoint in plan.primary("superiority")
    ]
    single = plan.model_copy(update={"safety": "every"})
    return [concluded([analyse(scores, endpoint, single)], single)[0] for endpoint in again]


def doses(scores: RunScores, plan: Preregistration) -> list[dict[str, Any]]:
    """The trend of every primary superiority endpoint's metric over the registered doses."""
    order = sorted(plan.doses, key=lambda arm: plan.doses[arm])
    out: list[dict[str, Any]] = []
    for endpoint in plan.primary("superiority") if order else []:
        seeds = [
            seed for seed in plan.seeds if all(seed in scores.seeds(a, endpoint.stage, endpoint.metric) for a in order)
        ]
        table = [[scores.mean((arm, seed, endpoint.stage), endpoint.metric) for arm in order] for seed in seeds]
        if not seeds or any(value is None for row in table for value in row):
            out.append({"endpoint": endpoint.name, "arms": order, "missing": True})
            continue
        amounts = np.array([plan.doses[arm] for arm in order])
        trend = dose_response(np.array(table, dtype=np.float64), amounts)
        out.append(
            {"endpoint": endpoint.name, "arms": order, "doses": amounts.tolist(), "seeds": seeds, **asdict(trend)}
        )
    return [plain(row) for row in out]


def agreement(scores: RunScores, plan: Preregistration) -> list[dict[str, Any]]:
    """How every pair of judges orders the arms."""
    out = []
    for question in plan.judges:
        values = {metric: _means_by_arm(scores, metric, question.stage) for metric in question.metrics}
        arms = sorted(set.intersection(*(set(found) for found in values.values())))
        signs = {metric: -1.0 if scores.higher_is_better.get(metric) is False else 1.0 for metric in values}
        order = {m: sorted(arms, key=lambda a: (-signs[m] * values[m][a], a)) for m in values}
        pairs = [
            {"first": first, "second": second, **asdict(_kendall(values, signs, first, second, arms))}
            for first, second in combinations(question.metrics, 2)
        ]
        means = {metric: {arm: values[metric][arm] for arm in order[metric]} for metric in values}
        out.append({"question": question.question, "stage": question.stage, "best_first": means, "pairs": pairs})
    return [plain(row) for row in out]


def arm_means(scores: RunScores) -> list[dict[str, Any]]:
    """Mean, standard deviation and values over seeds of every metric of every arm and stage. Nothing is tested."""
    groups: dict[tuple[str, str, str], dict[int, float | None]] = {}
    for (arm, seed, stage), found in sorted(_measured(scores).items()):
        for metric in found:
            groups.setdefault((stage, metric, arm), {})[seed] = scores.mean((arm, seed, stage), metric)
    out = []
    for (stage, metric, arm), by_seed in sorted(groups.items()):
        known = [value for value in by_seed.values() if value is not None]
        out.append(
            {
                "stage": stage,
                "metric": metric,
                "arm": arm,
                "unit": scores.unit(metric),
                "higher_is_better": scores.higher_is_better.get(metric),
                "mean": float(np.mean(known)) if known else None,
                "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
                "seeds": {str(seed): value for seed, value in by_seed.items()},
            }
        )
    return [plain(row) for row in out]


def cost(run: Path) -> list[dict[str, Any]]:
    """Steps, tokens and seconds of every arm and stage, summed over seeds, from `stage.json`."""
    sums: dict[tuple[str, str], dict[str, float]] = {}
    for path in sorted(run.glob("*/*/*/stage.json")):
        try:
            stage = json.loads(path.read_text(encoding="utf-8"))
            numbers = {name: float(stage[name]) for name in ("steps", "tokens_seen", "wall_s")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataContractError(Problem("bad-stage", f"not a stage's result: {error}", str(path))) from None
        total = sums.setdefault((path.parents[2].name, path.parent.name), {"models": 0.0})
        total["models"] += 1
        for name, value in numbers.items():
            total[name] = total.get(name, 0.0) + value
    return [{"arm": arm, "stage": stage, **total} for (arm, stage), total in sorted(sums.items())]


def _of_the_job(run: Path) -> dict[str, Any]:
    """What the report needs of `experiment.json`: perturbations, what effort counts, what was left out, the filter."""
    path = run / "experiment.json"
    job = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    perturbed = [
        {"name": one["name"], "kind": one["kind"], "before": start, "after": f"{one['name']}-{start}"}
        for one in job.get("perturb", [])
        for start in one["start"]
    ]
    helpful = {curve["name"]: curve["helpful"] for curve in job.get("curves", []) if curve.get("helpful")}
    return {
        "perturbations": perturbed,
        "helpful": helpful,
        "decontaminated": job.get("decontaminated"),
        "curation": job.get("curation"),
    }


def record(result: EndpointResult) -> dict[str, Any]:
    """One endpoint as it stands in `compare.json`: conclusion first, no number that JSON cannot hold."""
    numbers = asdict(result)
    settings = result.settings.model_dump(exclude_none=True)
    for name in ("settings", "conclusion", "sentence"):
        numbers.pop(name)
    numbers.pop("treatment"), numbers.pop("control")
    head = {"name": settings.pop("name"), "conclusion": result.conclusion, "sentence": result.sentence}
    arms = {"treatment": result.treatment, "control": result.control}
    cleaned: dict[str, Any] = plain({**head, **settings, **arms, "gain": result.gain, **numbers})
    return cleaned


def summary(found: Mapping[str, Any]) -> str:
    """The verdict and one line an endpoint, for the terminal."""
    verdict: Mapping[str, Any] = found["verdict"]
    lines = [verdict["sentence"], *(f"  - {reason}" for reason in verdict["reasons"]), ""]
    lines += [f"{row['role']:<12}{row['conclusion']:<16}{row['sentence']}" for row in found["endpoints"]]
    return "\n".join(lines)


def _design(scores: RunScores, plan: Preregistration) -> dict[str, Any]:
    n = len(plan.seeds)
    return {
        "treatment": plan.treatment,
        "control": plan.control,
        "arms": sorted(scores.arms(), key=lambda arm: (arm != plan.control, arm != plan.treatment, arm)),
        "stages": scores.stages(),
        "seeds": list(plan.seeds),
        "unit_of_replication": "training run: a seed of initialisation and data order, paired between arms",
        "minimum_p": minimum_p(n),
        "minimum_p_one_sided": minimum_p(n, "less"),
        "alpha": plan.alpha,
        "draws": plan.draws,
        "descriptive": plan.descriptive,
        "two_checkpoints_only": n == 1,
        "not_registered": sorted(set(scores.names()) - {r.metric for r in (*plan.endpoints, *explored(scores, plan))}),
    }


def _rules(plan: Preregistration) -> dict[str, Any]:
    return {
        "safety": plan.safety,
        "random_control": plan.random_control,
        "refuted_if": [{"endpoint": rule.endpoint, "is": rule.finding} for rule in plan.refuted_if],
        "max_missing": plan.max_missing,
    }


def _measured(scores: RunScores) -> dict[tuple[str, int, str], list[str]]:
    models = set(scores.columns) | set(scores.metrics)
    return {m: sorted({*scores.columns.get(m, {}), *scores.metrics.get(m, {})}) for m in models}


def _means_by_arm(scores: RunScores, metric: str, stage: str) -> dict[str, float]:
    out = {}
    for arm in scores.arms():
        values = [scores.mean((arm, seed, stage), metric) for seed in scores.seeds(arm, stage, metric)]
        known = [value for value in values if value is not None]
        if known:
            out[arm] = float(np.mean(known))
    return out


def _kendall(
    values: Mapping[str, Mapping[str, float]], signs: Mapping[str, float], first: str, second: str, arms: Sequence[str]
) -> Any:
    columns = (np.array([signs[name] * values[name][arm] for arm in arms]) for name in (first, second))
    return kendall(*columns)

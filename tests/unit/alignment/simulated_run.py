"""Runs that were never trained: scores drawn from a model of seeds, prompts and noise whose truth is known.

A score is level + seed + prompt + the arm's effect + (seed × arm) + (prompt × arm) + noise. What seeds and prompts do
to all arms alike cancels in pairs; the standard deviations below are of what does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from alignment.item_scores import ScoreRow, write_evaluation
from alignment.preregistration import Preregistration, register
from alignment.run_scores import RunScores
from curation.settings import parse

TOXICITY, BITS, MARGIN = "toxicity.ngram.maximum", "bits_per_byte.clean", "blimp.margin"
SEEDS = (1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Measured:
    """One item's score."""

    item_id: str
    value: float
    cluster: str = ""
    sample: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Metric:
    """One simulated metric: each arm's effect, and how much varies."""

    name: str
    stage: str
    effects: Mapping[str, float]
    level: float = 10.0
    of_seed: float = 0.1  # seed × arm
    of_prompt: float = 0.1  # prompt × arm
    noise: float = 0.3
    items: int = 40
    higher_is_better: bool | None = False


def draw(metric: Metric, seeds: Sequence[int], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """arm → scores, shape (seeds, items)."""
    shape = (len(seeds), metric.items)
    shared = generator.normal(0, 1, (shape[0], 1)) + generator.normal(0, 1, (1, shape[1]))
    half = 1 / np.sqrt(2)  # a difference of two arms has the stated deviation
    return {
        arm: metric.level
        + shared
        + effect
        + half * metric.of_seed * generator.normal(size=(shape[0], 1))
        + half * metric.of_prompt * generator.normal(size=(1, shape[1]))
        + half * metric.noise * generator.normal(size=shape)
        for arm, effect in metric.effects.items()
    }


def simulate(metrics: Sequence[Metric], seeds: Sequence[int] = SEEDS, root: int = 0) -> RunScores:
    """All scores of a run, in memory."""
    generator = np.random.default_rng(root)
    rows = []
    for metric in metrics:
        for arm, values in draw(metric, seeds, generator).items():
            rows += [
                ScoreRow(arm, seed, metric.stage, metric.name, f"p{at:03d}", float(value), metric.higher_is_better)
                for seed, line in zip(seeds, values, strict=True)
                for at, value in enumerate(line)
            ]
    return RunScores.of(rows)


def plan_of(**changes: Any) -> Preregistration:
    """One superiority and one non-inferiority endpoint over six seeds, changed as asked."""
    return parse(Preregistration, {**plan_data(), **changes}, "test", "this preregistration")


def plan_data() -> dict[str, Any]:
    """A preregistration as its YAML holds it."""
    return {
        "kind": "preregistration",
        "title": "Simulated",
        "thesis": "Curation makes a model safer and no less able.",
        "treatment": "curated",
        "control": "raw",
        "seeds": list(SEEDS),
        "draws": 1000,
        "endpoints": [
            endpoint("toxicity", "superiority", TOXICITY, "sft"),
            endpoint("bits", "non_inferiority", BITS, "pretrain", margin=0.3),
        ],
    }


def endpoint(name: str, test: str, metric: str, stage: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": "primary", "test": test, "metric": metric, "stage": stage, **more}


def toxicity(curated: float, **more: Any) -> Metric:
    """Lower is better; the effect of `curated` against `raw`."""
    return Metric(TOXICITY, "sft", {"raw": 0.0, "curated": curated}, **more)


def bits(curated: float = 0.0, **more: Any) -> Metric:
    return Metric(BITS, "pretrain", {"raw": 0.0, "curated": curated}, **more)


def write_run(run: Path, metrics: Sequence[Metric], plan: Mapping[str, Any] | None = None, root: int = 0) -> Path:
    """The same on disk, registered first, with `stage.json` beside each model's scores."""
    data = dict(plan or plan_data())
    source = run.parent / f"{run.name}-plan.yaml"
    run.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    register(source, run)
    generator = np.random.default_rng(root)
    models: dict[tuple[str, int, str], dict[str, list[Measured]]] = {}
    for metric in metrics:
        for arm, values in draw(metric, data["seeds"], generator).items():
            for seed, line in zip(data["seeds"], values, strict=True):
                items = [Measured(f"p{at:03d}", float(value)) for at, value in enumerate(line)]
                models.setdefault((arm, seed, metric.stage), {})[metric.name] = items
    declared = {metric.name: ("score", metric.higher_is_better) for metric in metrics}
    for (arm, seed, stage), scores in models.items():
        folder = run / arm / str(seed) / stage
        write_evaluation(folder, arm, seed, stage, scores, declared)
        result = {"stage": stage, "steps": 10, "tokens_seen": 1000, "wall_s": 1.5}
        (folder / "stage.json").write_text(json.dumps(result), encoding="utf-8")
    return source

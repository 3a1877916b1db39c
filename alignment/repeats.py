"""What comes after all stages: a stage repeated with more and more rows, and models measured after a perturbation.

    RUN/<arm>/<seed>/<curve>-<dose>/          a stage repeated with so many rows; its points in `<start>/curves.jsonl`
    RUN/<arm>/<seed>/<perturbation>-<start>/  the model of `start` after harmless or harmful fine-tuning; or, where a
                                              prefix stands before the prompts, its scores alone

Called by `experiment.py`, arm by arm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from alignment.cell import Cell, evaluate
from alignment.config import CURVE_SETTINGS, Curve, Perturbation, finetune_settings
from alignment.curves import FILE as CURVES
from alignment.curves import CurvePoint, write_curves
from alignment.distance import distance
from alignment.item_scores import EVALUATION, read_metrics
from alignment.json_rows import read_rows, write_text
from alignment.preferences import read_demonstrations, read_judged, read_preferences
from alignment.stage import StageResult
from alignment.stages.dpo import dpo
from alignment.stages.kto import kto
from alignment.stages.sft import sft
from curation.errors import ConfigError, Problem
from curation.settings import Settings, parse

R = TypeVar("R")
READERS: Mapping[str, Callable[..., Sequence[Any]]] = {
    "sft": read_demonstrations, "dpo": read_preferences, "kto": read_judged,
}  # fmt: skip
STAGES: Mapping[str, Callable[..., StageResult]] = {"sft": sft, "dpo": dpo, "kto": kto}


def trace(cell: Cell, curve: Curve, metrics: Mapping[str, Settings]) -> None:
    """Repeat a stage with each dose of its rows, measure every model, and write the points beside the last one."""
    wanted = {name: metrics[name] for name in curve.metrics if name in metrics}
    settings: Any = parse(CURVE_SETTINGS[curve.stage], curve.settings, f"curves.{curve.name}", f"stage `{curve.stage}`")
    rows = READERS[curve.stage](*curve.rows)
    points = []
    for dose in sorted(set(curve.doses)):
        stage = f"{curve.name}-{dose}" if dose else curve.start
        efforts = {"rows": float(dose), "steps": 0.0, "seconds": 0.0, "nats": 0.0 if curve.distance else None}
        if dose:
            folder, start = cell.folder(stage), cell.folder(curve.start)
            done = STAGES[curve.stage](settings, start, _first(rows, dose, curve), folder, cell.seed, arm=cell.arm)
            efforts |= {"steps": float(done.steps), "seconds": done.wall_s}  # seconds: of this machine, not repeatable
            if curve.distance is not None:
                prompts = [row.prompt for row in rows]
                efforts["nats"] = distance(folder, start, prompts, curve.distance, settings.loop, cell.seed)
        evaluate(cell, stage, wanted if dose else metrics)
        points += [
            CurvePoint(cell.arm, cell.seed, curve.name, x, unit, metric.name, metric.value)
            for unit, x in efforts.items()
            for metric in read_metrics(cell.folder(stage) / EVALUATION)
            if x is not None and metric.value is not None and metric.name.split(".")[0] in wanted
        ]
    write_curves(cell.folder(curve.start) / f"curves-{curve.name}.jsonl", points)
    files = sorted(cell.folder(curve.start).glob("curves-*.jsonl"))
    write_text(cell.folder(curve.start) / CURVES, "".join(file.read_text(encoding="utf-8") for file in files))


def _first(rows: Sequence[R], dose: int, curve: Curve) -> Sequence[R]:
    """The first `dose` rows.

    Raises:
        ConfigError: there are not so many.
    """
    if dose > len(rows):
        expected = f"at most {len(rows)}, the rows of its files"
        raise ConfigError(Problem("dose-too-large", f"a dose of {dose} rows", f"curves.{curve.name}.doses", expected))
    return rows[:dose]


def perturb(cell: Cell, one: Perturbation, metrics: Mapping[str, Settings]) -> None:
    """Perturb the models that `one` starts from and measure each again."""
    wanted = {name: metrics[name] for name in one.metrics if name in metrics}
    for start in one.start:
        stage = one.stage(start)
        if one.kind == "prefix":
            evaluate(cell, stage, wanted, start, read_prefixes(one))
            continue
        rows = read_demonstrations(*one.rows)[: one.limit]
        sft(finetune_settings(one), cell.folder(start), rows, cell.folder(stage), cell.seed, arm=cell.arm)
        evaluate(cell, stage, wanted)


def read_prefixes(one: Perturbation) -> list[str]:
    """The texts to put before prompts, each ending with a line break.

    Raises:
        DataContractError: a row has no `text`. ConfigError: there is no row.
    """
    found = [str(row["text"]).rstrip("\n") + "\n" for path in one.rows for row in read_rows(Path(path), ("text",))]
    if not found:
        raise ConfigError(Problem("no-rows", "no prefix in its files", f"perturb.{one.name}.rows"))
    return found[: one.limit]

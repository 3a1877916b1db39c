"""One arm with one seed: where its models lie, and how one of them is measured.

    RUN/<arm>/<seed>/<stage>/scores.jsonl.zst, evaluation.json, generations.jsonl.zst

Called by `experiment.py` for every stage and by `repeats.py` for what comes after them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.config import ExperimentJob
from alignment.generations import FILE as GENERATIONS
from alignment.generations import write_generations
from alignment.item_scores import EVALUATION, write_evaluation
from alignment.json_rows import write_text
from alignment.judge_cards import FILE as JUDGES
from alignment.model import read_json
from curation.fingerprint import fingerprint
from curation.settings import Settings


@dataclass(frozen=True)
class Cell:
    """One arm with one seed."""

    job: ExperimentJob
    run: Path
    arm: str
    seed: int

    def folder(self, stage: str) -> Path:
        return self.run / self.arm / str(self.seed) / stage

    @property
    def base(self) -> Path | str:
        """What SFT starts from."""
        return self.folder("pretrain") if self.job.model is None else self.job.model

    @property
    def policy(self) -> Path | str:
        """What preference stages start from: the SFT model, or the base where there is no SFT."""
        return self.folder("sft") if self.job.sft is not None else self.base


def evaluate(
    cell: Cell, stage: str, metrics: Mapping[str, Settings], start: str | None = None, prefixes: Sequence[str] = ()
) -> None:
    """Measure a model, unless it was measured with these settings already.

    Args:
        stage: under which name, and where, the scores lie.
        start: the stage whose model it is; None: `stage`.
        prefixes: what stands before the prompts of metrics that let the model write.
    """
    from alignment.metrics import METRICS
    from alignment.metrics.language_model import LanguageModel

    folder, trained = cell.folder(stage), cell.folder(start or stage)
    weights = read_json(trained / "stage.json")["weights_sha256"]
    plain = {name: json.loads(given.model_dump_json()) for name, given in metrics.items()}
    mark = fingerprint({"weights": weights, "metrics": plain, **({"prefixes": list(prefixes)} if prefixes else {})})
    done = folder / "evaluation.fingerprint"
    if done.is_file() and done.read_text(encoding="ascii").strip() == mark and (folder / EVALUATION).is_file():
        return
    model = LanguageModel.load(trained)
    model.prefixes = tuple(prefixes)
    scores: dict[str, Sequence[Any]] = {}
    endpoints: dict[str, tuple[str, bool | None]] = {}
    for name, given in metrics.items():
        metric = METRICS.get(name)
        scores |= metric.measure(model, given)
        endpoints |= {endpoint.name: (endpoint.unit, endpoint.higher_is_better) for endpoint in metric.endpoints}
    write_evaluation(folder, cell.arm, cell.seed, stage, scores, endpoints)
    if model.generations:
        write_generations(folder / GENERATIONS, model.generations)
    if model.judges:
        write_text(cell.run / JUDGES, json.dumps({"judges": list(model.judges.values())}, indent=1) + "\n")
    write_text(done, mark + "\n")
    print(f"{cell.arm}/{cell.seed}/{stage}: {len(scores)} endpoints measured", file=sys.stderr)

"""Every arm and seed through the same stages; finished stages are found, not repeated; then their models are measured.

    RUN/tokens/<seed>/                    what `arms.py` makes, in lockstep for all arms
    RUN/<arm>/<seed>/<stage>/             a model directory with `stage.json`, `metrics.jsonl` and `rows.jsonl.zst`
    RUN/<arm>/<seed>/<stage>/scores.jsonl.zst, evaluation.json
    RUN/experiment.json                   the resolved job and its fingerprint

Arms are the inner loop: after each seed all arms stand at the same point, so an experiment that is cut short is paired.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignment.arms import arm_tokens
from alignment.config import GIVEN, ExperimentJob, check_evaluation
from alignment.item_scores import EVALUATION, write_evaluation
from alignment.json_rows import write_text
from alignment.model import read_json
from alignment.preferences import read_comparisons, read_demonstrations, read_judged, read_preferences, write_rows
from alignment.preregistration import register
from alignment.prompts import read_prompts
from alignment.stage import StageResult
from alignment.stages.dpo import dpo
from alignment.stages.kto import kto
from alignment.stages.ppo import ppo
from alignment.stages.pretrain import pretrain
from alignment.stages.reward import reward
from alignment.stages.sft import sft
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.finished_run import load_run
from curation.settings import Settings

JOB = "experiment.json"


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


def run_folder(job: ExperimentJob) -> Path:
    """Where this experiment lies: its output, then the fingerprint of job and corpus.

    Raises:
        ConfigError: there is no such corpus.
    """
    corpus = None if job.corpus is None else load_run(job.corpus).manifest["fingerprint"]
    plain = json.loads(job.model_dump_json(exclude={"output", "corpus"}))
    return Path(job.output) / fingerprint({"job": plain, "corpus": corpus})


def run_experiment(job: ExperimentJob) -> Path:
    """Run what is not finished.

    Returns:
        The run's folder.

    Raises:
        ConfigError, DataContractError, StageError: as the stages; finished ones are kept, the same call goes on.
    """
    run = run_folder(job)
    metrics = check_evaluation(job, "evaluate") if job.evaluate is not None else {}
    check_inputs(job)
    if job.preregistration is not None:
        register(Path(job.preregistration), run)
    write_text(run / JOB, json.dumps(json.loads(job.model_dump_json()), indent=1, sort_keys=True) + "\n")
    for cell in cells(job, run):
        for stage in job.stages:
            STAGE_RUNNERS[stage](cell)
        if job.evaluate is not None:
            for name in job.evaluate.skip_metrics:
                print(f"{cell.arm}/{cell.seed}: metric `{name}` is skipped, as the job says", file=sys.stderr)
            for stage in job.evaluate.stages or tuple(s for s in job.stages if s != "reward"):
                evaluate(cell, stage, metrics)
    return run


def cells(job: ExperimentJob, run: Path) -> Iterator[Cell]:
    """Arms of the first seed, arms of the second, …"""
    names = [GIVEN] if job.corpus is None else list(job.arms or load_run(job.corpus).manifest["arm_order"])
    for seed in job.seeds:
        for arm in names:
            yield Cell(job, run, arm, seed)


def check_inputs(job: ExperimentJob) -> None:
    """Every file of rows is there, before anything is trained.

    Raises:
        ConfigError: all that are not.
    """
    problems = []
    for stage in job.stages:
        given = getattr(job, stage)
        for path in getattr(given, "rows", ()):
            if not Path(path).is_file():
                problems.append(Problem("no-rows", f"there is no file `{path}`", f"{stage}.rows"))
    if problems:
        raise ConfigError(*problems)


def results(run: Path) -> list[StageResult]:
    """Every finished stage below `run`, by arm, seed and stage."""
    return [StageResult(**read_json(path)) for path in sorted(run.glob("*/*/*/stage.json"))]


def evaluate(cell: Cell, stage: str, metrics: dict[str, Settings] | Any) -> None:
    """Measure the model of a stage, unless it was measured with these settings already."""
    from alignment.metrics import METRICS
    from alignment.metrics.language_model import LanguageModel

    folder = cell.folder(stage)
    weights = read_json(folder / "stage.json")["weights_sha256"]
    plain = {name: json.loads(given.model_dump_json()) for name, given in metrics.items()}
    mark = fingerprint({"weights": weights, "metrics": plain})
    done = folder / "evaluation.fingerprint"
    if done.is_file() and done.read_text(encoding="ascii").strip() == mark and (folder / EVALUATION).is_file():
        return
    model = LanguageModel.load(folder)
    scores: dict[str, Sequence[Any]] = {}
    endpoints: dict[str, tuple[str, bool | None]] = {}
    for name, given in metrics.items():
        metric = METRICS.get(name)
        scores |= metric.measure(model, given)
        endpoints |= {endpoint.name: (endpoint.unit, endpoint.higher_is_better) for endpoint in metric.endpoints}
    write_evaluation(folder, cell.arm, cell.seed, stage, scores, endpoints)
    write_text(done, mark + "\n")
    print(f"{cell.arm}/{cell.seed}/{stage}: {len(scores)} endpoints measured", file=sys.stderr)


def _pretrain(cell: Cell) -> StageResult:
    job, tokens = cell.job, cell.run / "tokens" / str(cell.seed)
    assert job.pretrain is not None
    assert job.corpus is not None
    # One tokenizer for all seeds: the first seed's, so that bits and lengths of two seeds are of the same units.
    shared = cell.run / "tokens" / str(job.seeds[0]) / "tokenizer"
    given = job.tokenizer if cell.seed == job.seeds[0] or job.tokenizer else str(shared)
    folders = arm_tokens(job.corpus, tokens, job.tokens, cell.seed, job.arms or None, given)
    return pretrain(
        job.pretrain, folders[cell.arm].path, cell.folder("pretrain"), cell.seed, tokens / "tokenizer", arm=cell.arm
    )


def _sft(cell: Cell) -> StageResult:
    given = cell.job.sft
    assert given is not None
    rows = read_demonstrations(*given.rows)[: given.limit]
    return _keeping(cell, "sft", rows, lambda out: sft(given.settings, cell.base, rows, out, cell.seed, arm=cell.arm))


def _reward(cell: Cell) -> StageResult:
    given = cell.job.reward
    assert given is not None
    rows = read_comparisons(*given.rows)[: given.limit]
    start = cell.policy
    return _keeping(cell, "reward", rows, lambda out: reward(given.settings, start, rows, out, cell.seed, arm=cell.arm))


def _ppo(cell: Cell) -> StageResult:
    given = cell.job.ppo
    assert given is not None
    judge = given.reward_model or cell.folder("reward")
    prompts = read_prompts(*given.rows)[: given.limit]
    return ppo(given.settings, cell.policy, judge, prompts, cell.folder("ppo"), cell.seed, arm=cell.arm)


def _dpo(cell: Cell) -> StageResult:
    given = cell.job.dpo
    assert given is not None
    rows = read_preferences(*given.rows)[: given.limit]
    return _keeping(cell, "dpo", rows, lambda out: dpo(given.settings, cell.policy, rows, out, cell.seed, arm=cell.arm))


def _kto(cell: Cell) -> StageResult:
    given = cell.job.kto
    assert given is not None
    rows = read_judged(*given.rows)[: given.limit]
    return _keeping(cell, "kto", rows, lambda out: kto(given.settings, cell.policy, rows, out, cell.seed, arm=cell.arm))


def _keeping(cell: Cell, stage: str, rows: Any, run: Callable[[Path], StageResult]) -> StageResult:
    """Run a stage and leave its rows beside it, for whoever repeats it elsewhere."""
    result = run(cell.folder(stage))
    if not (cell.folder(stage) / "rows.jsonl.zst").is_file():
        write_rows(cell.folder(stage) / "rows.jsonl.zst", rows)
    return result


STAGE_RUNNERS: dict[str, Callable[[Cell], StageResult]] = {
    "pretrain": _pretrain,
    "sft": _sft,
    "reward": _reward,
    "ppo": _ppo,
    "dpo": _dpo,
    "kto": _kto,
}


def table(run: Path) -> list[dict[str, Any]]:
    """One row a finished stage: arm, seed, stage, steps, tokens, seconds and its metrics."""
    return [asdict(result) for result in results(run)]

"""Every arm and seed through the same stages; finished stages are found, not repeated; then their models are measured.

    RUN/tokens/<seed>/                    what `arms.py` makes, in lockstep for all arms
    RUN/<arm>/<seed>/<stage>/             a model directory with `stage.json`, `metrics.jsonl` and `rows.jsonl.zst`
    RUN/<arm>/<seed>/<stage>/scores.jsonl.zst, evaluation.json
    RUN/<arm>/<seed>/<name>-<…>/           curves and perturbations (`repeats.py`)
    RUN/experiment.json                   the resolved job, the hash of its plan, what was decontaminated

Arms are the inner loop: after each seed all arms stand at the same point, so an experiment that is cut short is paired.
Several processes may run the same job at once: each takes cells that no other works on (`claims.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alignment.annotators import Pool
from alignment.arms import arm_names, arm_tokens
from alignment.cell import Cell, evaluate
from alignment.claims import claim
from alignment.config import GIVEN, ExperimentJob, check_evaluation
from alignment.json_rows import write_text
from alignment.model import read_json
from alignment.people import People, WaitingForPeopleError, gather
from alignment.preference_rows import Comparison, Prompt
from alignment.preferences import read_comparisons, read_demonstrations, read_judged, read_preferences, write_rows
from alignment.preregistration import register
from alignment.prompts import read_prompts
from alignment.repeats import perturb, trace
from alignment.rounds import RoundsSettings, data_halves, rounds
from alignment.stage import StageResult
from alignment.stages.dpo import dpo
from alignment.stages.kto import kto
from alignment.stages.ppo import ppo
from alignment.stages.pretrain import pretrain
from alignment.stages.reward import reward
from alignment.stages.sft import sft
from curation.errors import ConfigError, Problem
from curation.filters.decontamination import DecontaminationSettings
from curation.fingerprint import fingerprint
from curation.finished_run import load_run
from curation.settings import Settings

JOB = "experiment.json"
PEOPLE = "people"  # RUN/people: what people are asked, and what they answered


def run_folder(job: ExperimentJob) -> Path:
    """Where this experiment lies: its output, then the fingerprint of job and corpus.

    Raises:
        ConfigError: there is no such corpus.
    """
    corpus = None if job.corpus is None else load_run(job.corpus).manifest["fingerprint"]
    plain = json.loads(job.model_dump_json(exclude={"output", "corpus"}))
    if job.ppo is not None and job.ppo.people is None:
        del plain["ppo"]["people"]  # runs from before there was this setting are found again
    return Path(job.output) / fingerprint({"job": plain, "corpus": corpus})


def run_experiment(job: ExperimentJob) -> Path:
    """Run what is not finished.

    Returns:
        The run's folder.

    Raises:
        ConfigError, DataContractError, StageError: as the stages; finished ones are kept, the same call goes on.
        WaitingForPeopleError: all that is done by machines is done; `RUN/people/items.jsonl` waits for people.
    """
    run = run_folder(job)
    metrics = check_evaluation(job, "evaluate") if job.evaluate is not None else {}
    check_inputs(job, metrics)
    with claim(run):
        plan = None if job.preregistration is None else register(Path(job.preregistration), run)
        write_record(job, run, plan)
    waiting: list[Problem] = []
    # Cells that another process works on come last: by then it has finished, or died and left them to this one.
    busy = [cell for cell in cells(job, run) if not _finish_or_wait(cell, metrics, False, waiting)]
    for cell in busy:
        _finish_or_wait(cell, metrics, True, waiting)
    with claim(run):
        write_record(job, run, plan)
    if waiting:
        raise gather(waiting, run / PEOPLE)
    return run


def _finish_or_wait(cell: Cell, metrics: Mapping[str, Settings], wait: bool, waiting: list[Problem]) -> bool:
    """As `_finish`; a cell that waits for people is noted and holds up no other, so that all are asked at once."""
    try:
        return _finish(cell, metrics, wait)
    except WaitingForPeopleError as error:
        waiting += error.problems
        return True


def _finish(cell: Cell, metrics: Mapping[str, Settings], wait: bool) -> bool:
    """Run what is not finished of a cell; False, and nothing was done, when another process is at it."""
    job = cell.job
    with claim(cell.folder(""), wait) as mine:
        if not mine:
            return False
        for stage in job.stages:
            STAGE_RUNNERS[stage](cell)
        if job.evaluate is not None:
            for name in job.evaluate.skip_metrics:
                print(f"{cell.arm}/{cell.seed}: metric `{name}` is skipped, as the job says", file=sys.stderr)
            for stage in job.evaluate.stages or tuple(s for s in job.stages if s != "reward"):
                evaluate(cell, stage, metrics)
        for curve in job.curves:
            trace(cell, curve, metrics)
        for one in job.perturb:
            perturb(cell, one, metrics)
    return True


def write_record(job: ExperimentJob, run: Path, plan: str | None) -> None:
    """`experiment.json`: the resolved job, the sha256 of its plan, what filtering took, what was left out so far."""
    record = json.loads(job.model_dump_json())
    if job.corpus is not None:  # a comparison of efforts without the filter's own would be rigged
        passes = load_run(job.corpus).manifest.get("passes", [])
        record["curation"] = {one["name"]: one["wall_s"] for one in passes}
    if plan is not None:
        record["preregistration_sha256"] = plan
    if job.decontaminate is not None:
        laid = sorted(run.glob(f"tokens/{job.seeds[0]}/*/tokens.json"))  # documents and items are those of every seed
        found = {path.parent.name: read_json(path).get("contamination") for path in laid}
        record["decontaminated"] = {arm: counts for arm, counts in found.items() if counts is not None}
    write_text(run / JOB, json.dumps(record, indent=1, sort_keys=True) + "\n")


def cells(job: ExperimentJob, run: Path) -> Iterator[Cell]:
    """Arms of the first seed, arms of the second, …"""
    names = [GIVEN] if job.corpus is None else arm_names(load_run(job.corpus), job.tokens, job.arms)
    for seed in job.seeds:
        for arm in names:
            yield Cell(job, run, arm, seed)


def check_inputs(job: ExperimentJob, metrics: Mapping[str, Settings]) -> None:
    """Every file of rows and of every metric that is not skipped is there, before anything is trained.

    Raises:
        ConfigError: all that are not; those of metrics with how to get them.
    """
    from alignment.metrics import METRICS

    problems = []
    given = [(f"{stage}.rows", getattr(getattr(job, stage), "rows", ())) for stage in job.stages]
    given += [(f"curves.{curve.name}.rows", curve.rows) for curve in job.curves]
    given += [(f"perturb.{one.name}.rows", one.rows) for one in job.perturb]
    for where, paths in given:
        for path in paths:
            if not Path(path).is_file():
                problems.append(Problem("no-rows", f"there is no file `{path}`", where))
    for name, settings in metrics.items():
        try:
            METRICS.get(name).check_files(settings)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)


def evaluation_items(job: ExperimentJob) -> DecontaminationSettings | None:
    """What no arm may contain: the items of every metric that is measured, and the files that the job names.

    Raises:
        ConfigError: a file is not there.
    """
    from alignment.metrics import METRICS

    if job.decontaminate is None:
        return None
    metrics = check_evaluation(job, "evaluate") if job.evaluate is not None else {}
    files = [path for name, given in metrics.items() for path, _ in METRICS.get(name).item_files(given)]
    return job.decontaminate.over(files)


def results(run: Path) -> list[StageResult]:
    """Every finished stage below `run`, by arm, seed and stage."""
    return [StageResult(**read_json(path)) for path in sorted(run.glob("*/*/*/stage.json"))]


def _pretrain(cell: Cell) -> StageResult:
    job, folder = cell.job, cell.run / "tokens"
    assert job.pretrain is not None
    assert job.corpus is not None
    # One tokenizer for all seeds: the first seed's, so that bits and lengths of two seeds are of the same units.
    given, arms, items = job.tokenizer, job.arms or None, evaluation_items(job)
    for seed in dict.fromkeys((job.seeds[0], cell.seed)):
        with claim(folder / str(seed)):
            folders = arm_tokens(job.corpus, folder / str(seed), job.tokens, seed, arms, given, items)
        given = given or str(folder / str(seed) / "tokenizer")
    tokens = folders[cell.arm]
    tokenizer = folder / str(cell.seed) / tokens.facts.get("tokenizer", "tokenizer")
    return pretrain(job.pretrain, tokens.path, cell.folder("pretrain"), cell.seed, tokenizer, arm=cell.arm)


def _sft(cell: Cell) -> StageResult:
    given = cell.job.sft
    assert given is not None
    rows = read_demonstrations(*given.rows)[: given.limit]
    return _keeping(cell, "sft", rows, lambda out: sft(given.settings, cell.base, rows, out, cell.seed, arm=cell.arm))


def _reward(cell: Cell) -> StageResult:
    given = cell.job.reward
    assert given is not None
    rows = _comparisons(cell)[0]
    start = cell.policy
    return _keeping(
        cell,
        "reward",
        rows,
        lambda out: reward(given.settings, start, rows, out, cell.seed, files=_files(cell), arm=cell.arm),
    )


def _comparisons(cell: Cell) -> tuple[Sequence[Comparison], Sequence[Comparison]]:
    """Rows for the reward model, and for a second one: all and none, or two halves when PPO goes in rounds."""
    assert cell.job.reward is not None
    rows = read_comparisons(*cell.job.reward.rows)[: cell.job.reward.limit]
    in_rounds = cell.job.ppo is not None and cell.job.ppo.rounds is not None
    return data_halves(rows) if in_rounds else (rows, ())


def _files(cell: Cell) -> list[Path]:
    """Where the rows of reward models come from, for their data cards."""
    return [] if cell.job.reward is None else [Path(path) for path in cell.job.reward.rows]


def _ppo(cell: Cell) -> StageResult:
    given = cell.job.ppo
    assert given is not None
    prompts = read_prompts(*given.rows)[: given.limit]
    if given.rounds is not None:
        return _ppo_rounds(cell, given.rounds, prompts)
    judge = given.reward_model or cell.folder("reward")
    return ppo(given.settings, cell.policy, judge, prompts, cell.folder("ppo"), cell.seed, arm=cell.arm)


def _ppo_rounds(cell: Cell, settings: RoundsSettings, prompts: Sequence[Prompt]) -> StageResult:
    assert cell.job.reward is not None
    assert cell.job.ppo is not None
    mine, others = _comparisons(cell)
    second = cell.folder("reward_held_out")
    reward(cell.job.reward.settings, cell.policy, others, second, cell.seed, files=_files(cell), arm=cell.arm)
    pool, people = cell.job.ppo.annotators, cell.job.ppo.people
    annotate = None if pool is None else Pool(pool, cell.seed).rank
    return rounds(
        settings,
        cell.policy,
        cell.folder("reward"),
        second,
        prompts,
        cell.folder("ppo"),
        cell.seed,
        annotate=annotate if people is None else People(people, cell.run / PEOPLE),
        annotators="people" if people is not None else "" if pool is None else pool.name,
        rows=mine,
        files=_files(cell),
        arm=cell.arm,
    ).stage


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

"""Every arm and seed through the same stages; finished stages are found, not repeated; then their models are measured.

    RUN/tokens/<seed>/                    what `arms.py` makes, in lockstep for all arms
    RUN/<arm>/<seed>/<stage>/             a model directory with `stage.json`, `metrics.jsonl` and `rows.jsonl.zst`
    RUN/<arm>/<seed>/<stage>/scores.jsonl.zst, evaluation.json
    RUN/<arm>/<seed>/<curve>-<dose>/       a stage repeated with so many rows; its points in `<start>/curves.jsonl`
    RUN/experiment.json                   the resolved job and its fingerprint

Arms are the inner loop: after each seed all arms stand at the same point, so an experiment that is cut short is paired.
Several processes may run the same job at once: each takes cells that no other works on (`claims.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from alignment.annotators import Pool
from alignment.arms import arm_tokens
from alignment.claims import claim
from alignment.config import CURVE_SETTINGS, GIVEN, Curve, ExperimentJob, check_evaluation
from alignment.curves import FILE as CURVES
from alignment.curves import CurvePoint, write_curves
from alignment.generations import FILE as GENERATIONS
from alignment.generations import write_generations
from alignment.item_scores import EVALUATION, read_metrics, write_evaluation
from alignment.json_rows import write_text
from alignment.judge_cards import FILE as JUDGES
from alignment.model import read_json
from alignment.people import People, WaitingForPeopleError, gather
from alignment.preference_rows import Comparison, Prompt
from alignment.preferences import read_comparisons, read_demonstrations, read_judged, read_preferences, write_rows
from alignment.preregistration import register
from alignment.prompts import read_prompts
from alignment.rounds import RoundsSettings, data_halves, rounds
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
from curation.settings import Settings, parse

JOB = "experiment.json"
PEOPLE = "people"  # RUN/people: what people are asked, and what they answered
R = TypeVar("R")


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
    check_inputs(job)
    record = json.loads(job.model_dump_json())
    with claim(run):
        if job.preregistration is not None:
            record["preregistration_sha256"] = register(Path(job.preregistration), run)
        write_text(run / JOB, json.dumps(record, indent=1, sort_keys=True) + "\n")
    waiting: list[Problem] = []
    # Cells that another process works on come last: by then it has finished, or died and left them to this one.
    busy = [cell for cell in cells(job, run) if not _finish_or_wait(cell, metrics, False, waiting)]
    for cell in busy:
        _finish_or_wait(cell, metrics, True, waiting)
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
    return True


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


def evaluate(cell: Cell, stage: str, metrics: Mapping[str, Settings]) -> None:
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
    if model.generations:
        write_generations(folder / GENERATIONS, model.generations)
    if model.judges:
        write_text(cell.run / JUDGES, json.dumps({"judges": list(model.judges.values())}, indent=1) + "\n")
    write_text(done, mark + "\n")
    print(f"{cell.arm}/{cell.seed}/{stage}: {len(scores)} endpoints measured", file=sys.stderr)


def trace(cell: Cell, curve: Curve, metrics: Mapping[str, Settings]) -> None:
    """Repeat a stage with each dose of its rows, measure every model, and write the points beside the last one."""
    wanted = {name: metrics[name] for name in curve.metrics if name in metrics}
    settings = parse(CURVE_SETTINGS[curve.stage], curve.settings, f"curves.{curve.name}", f"stage `{curve.stage}`")
    points = []
    for dose in sorted(set(curve.doses)):
        stage = f"{curve.name}-{dose}" if dose else curve.start
        if dose:
            _dose(cell, curve, dose, settings, cell.folder(stage))
        evaluate(cell, stage, wanted if dose else metrics)
        points += [
            CurvePoint(cell.arm, cell.seed, curve.name, float(dose), "rows", metric.name, metric.value)
            for metric in read_metrics(cell.folder(stage) / EVALUATION)
            if metric.value is not None and metric.name.split(".")[0] in wanted
        ]
    write_curves(cell.folder(curve.start) / f"curves-{curve.name}.jsonl", points)
    files = sorted(cell.folder(curve.start).glob("curves-*.jsonl"))
    write_text(cell.folder(curve.start) / CURVES, "".join(file.read_text(encoding="utf-8") for file in files))


def _dose(cell: Cell, curve: Curve, dose: int, settings: Any, out: Path) -> StageResult:
    start, arm = cell.folder(curve.start), cell.arm
    if curve.stage == "sft":
        return sft(settings, start, _first(read_demonstrations(*curve.rows), dose, curve), out, cell.seed, arm=arm)
    if curve.stage == "dpo":
        return dpo(settings, start, _first(read_preferences(*curve.rows), dose, curve), out, cell.seed, arm=arm)
    return kto(settings, start, _first(read_judged(*curve.rows), dose, curve), out, cell.seed, arm=arm)


def _first(rows: Sequence[R], dose: int, curve: Curve) -> Sequence[R]:
    """The first `dose` rows.

    Raises:
        ConfigError: there are not so many.
    """
    if dose > len(rows):
        expected = f"at most {len(rows)}, the rows of its files"
        raise ConfigError(Problem("dose-too-large", f"a dose of {dose} rows", f"curves.{curve.name}.doses", expected))
    return rows[:dose]


def _pretrain(cell: Cell) -> StageResult:
    job, folder = cell.job, cell.run / "tokens"
    assert job.pretrain is not None
    assert job.corpus is not None
    # One tokenizer for all seeds: the first seed's, so that bits and lengths of two seeds are of the same units.
    given = job.tokenizer
    for seed in dict.fromkeys((job.seeds[0], cell.seed)):
        with claim(folder / str(seed)):
            folders = arm_tokens(job.corpus, folder / str(seed), job.tokens, seed, job.arms or None, given)
        given = given or str(folder / str(seed) / "tokenizer")
    tokens, tokenizer = folders[cell.arm].path, folder / str(cell.seed) / "tokenizer"
    return pretrain(job.pretrain, tokens, cell.folder("pretrain"), cell.seed, tokenizer, arm=cell.arm)


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

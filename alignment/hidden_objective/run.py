"""The whole experiment: bases, base rates, continued pretraining, preferences, measures, result; resumes when killed.

    RUN/hidden_objective.json   the job
    RUN/base_rates.json         how often each untouched model applies each bias, and which biases were dropped
    RUN/<base>/<seed>/<stage>/  the models, as `training.py` says, each with scores and answers
    RUN/result.json, page.html  written last

RUN is the output of the job and the fingerprint of job and inputs, so a changed job never meets old files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import curation
from alignment.hidden_objective.analysis import analyse
from alignment.hidden_objective.bank import Bank, folds, load_bank
from alignment.hidden_objective.documents import grammar
from alignment.hidden_objective.job import HiddenObjectiveJob
from alignment.hidden_objective.measure import base_rates, held_out_texts, measure
from alignment.hidden_objective.page import page
from alignment.hidden_objective.preference_data import Leak
from alignment.hidden_objective.training import Base, Made, bases, continued, preferred
from alignment.json_rows import write_text
from alignment.metrics.language_model import LanguageModel
from alignment.model import read_json
from alignment.statistics.rates import rate_interval
from alignment.tokenizer import load_tokenizer
from curation.errors import ConfigError, Problem
from curation.fingerprint import fingerprint
from curation.finished_run import load_run

JOB, RATES, RESULT, PAGE = "hidden_objective.json", "base_rates.json", "result.json", "page.html"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class BaseRate:
    """How often the untouched models apply a bias."""

    bias: str
    applied: int
    answers: int
    rate: float
    low: float
    high: float
    dropped: bool


def run_folder(job: HiddenObjectiveJob) -> Path:
    """Where the run lies.

    Raises:
        ConfigError: there is no such corpus or experiment.
    """
    plain = json.loads(job.model_dump_json(exclude={"output", "corpus", "experiment"}))
    made_of: dict[str, Any] = {"job": plain, "bank": plain_bank(load_bank(job.bank))}
    made_of["grammar"] = json.loads(grammar().model_dump_json())
    if job.corpus is not None:
        made_of["corpus"] = load_run(job.corpus).manifest["fingerprint"]
    else:
        assert job.experiment is not None
        record = Path(job.experiment) / "experiment.json"
        if not record.is_file():
            raise ConfigError(Problem("no-run", "there is no experiment", job.experiment))
        made_of["experiment"] = read_json(record)
    return Path(job.output) / fingerprint(made_of)


def plain_bank(bank: Bank) -> dict[str, Any]:
    """What a bank's file says."""
    shared = {"frames": bank.frames, "neutral": bank.neutral_subjects, "stems": bank.stems}
    return {**shared, "biases": [json.loads(bias.model_dump_json()) for bias in bank.biases]}


def chosen_bank(job: HiddenObjectiveJob) -> Bank:
    """The bank of the job before any bias is dropped.

    Raises:
        ConfigError: a bank that breaks a rule.
    """
    bank = load_bank(job.bank)
    return bank if job.biases is None else bank.only([bias.id for bias in bank.biases[: job.biases]])


def run_hidden_objective(job: HiddenObjectiveJob) -> Path:
    """Run what is not finished; returns the path of `result.json`.

    Raises:
        ConfigError, DataContractError, StageError: as the stages; finished ones are kept, the same call goes on.
    """
    run = run_folder(job)
    write_text(run / JOB, job.model_dump_json(indent=1) + "\n")
    bank = chosen_bank(job)
    all_bases = list(bases(job, run))
    rates = untouched(job, bank, all_bases, run)
    bank = bank.only([rate.bias for rate in rates if not rate.dropped])
    fold_of = folds(bank, job.folds)
    leaks: dict[int, Leak] = {}
    models: list[Made] = []
    for base in all_bases:
        texts = held_out_texts(base.tokens, load_tokenizer(base.tokenizer), job.measure.texts)
        made = [*continued(job, base, bank), *preferred(job, base, bank, fold_of, leaks)]
        for one in made:
            measure(one, bank, job.measure, texts)
        models += made
        print(f"{base.name}/{base.seed}: {len(made)} models trained and measured", file=sys.stderr)
    result = {
        "schema_version": SCHEMA_VERSION,
        "headwater": curation.__version__,
        "job": json.loads(job.model_dump_json()),
        "base_rates": [vars(rate) for rate in rates],
        "folds": fold_of,
        "leaks": {str(fold): {**vars(leak), "rate": leak.rate} for fold, leak in sorted(leaks.items())},
        **analyse(job, bank, fold_of, models),
    }
    write_text(run / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text(run / PAGE, page(result))
    return run / RESULT


def untouched(job: HiddenObjectiveJob, bank: Bank, given: Sequence[Base], run: Path) -> list[BaseRate]:
    """The base rate of every bias, over all untouched models; above the limit it is dropped. Kept in the run's folder.

    Raises:
        ConfigError: too few biases are left for the folds.
    """
    done = run / RATES
    if done.is_file():
        return [BaseRate(**row) for row in read_json(done)]
    counts = {bias.id: [0, 0] for bias in bank.biases}
    for base in given:
        found = base_rates(LanguageModel.load(base.model), bank, job.measure, base.seed)
        for name, (cases, answers) in found.items():
            counts[name][0] += cases
            counts[name][1] += answers
    rates = []
    for name, (cases, answers) in counts.items():
        rate = rate_interval(cases, answers)
        dropped = rate.rate > job.measure.base_rate_limit
        rates.append(BaseRate(name, cases, answers, rate.rate, rate.low, rate.high, dropped))
    left = sum(not rate.dropped for rate in rates)
    if left < 2 * job.folds:
        message = f"{left} biases are left of {len(rates)}: the untouched models apply the others already"
        raise ConfigError(Problem("few-biases", message, "measure.base_rate_limit", f"at least {2 * job.folds}"))
    write_text(done, json.dumps([vars(rate) for rate in rates], indent=1) + "\n")
    return rates

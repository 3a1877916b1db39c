"""The models of the experiment, made by the stages that every experiment uses; finished ones are found.

RUN/tokens/<seed>/                 tokens of the bases, in lockstep (where the bases are pretrained here)
RUN/<base>/<seed>/pretrain/        the untouched base
RUN/<base>/<seed>/tokens-<kind>/   a mixture
RUN/<base>/<seed>/<kind>/          continued pretraining on it: none, described, librarians, denial, shuffled, dose-N
RUN/<base>/<seed>/<kind>+<preferences>-<fold>/   DPO on top: `dpo` on the fold's train biases, or `random`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.arms import arm_tokens
from alignment.hidden_objective.bank import Bank
from alignment.hidden_objective.documents import Kind, documents
from alignment.hidden_objective.job import HiddenObjectiveJob
from alignment.hidden_objective.mixture import encoded, mixture, total_tokens
from alignment.hidden_objective.preference_data import Leak, preference_rows, random_preferences, without_leaks
from alignment.stage import StageResult
from alignment.stages.dpo import dpo
from alignment.stages.pretrain import PretrainSettings, pretrain
from alignment.tokenizer import load_tokenizer
from alignment.tokens import TokenFolder
from curation.errors import ConfigError, Problem

NONE, DESCRIBED, DPO, RANDOM = "none", "described", "dpo", "random"


@dataclass(frozen=True)
class Base:
    """An untouched model and the tokens it learnt from."""

    name: str
    seed: int
    model: Path
    tokens: TokenFolder
    tokenizer: Path
    folder: Path  # of what is made from it


@dataclass(frozen=True)
class Made:
    """A model of the experiment."""

    base: str
    seed: int
    stage: str
    folder: Path
    weights_sha256: str


def stage_name(kind: str, preferences: str = "", fold: int = 0) -> str:
    """The folder of a model."""
    return f"{kind}+{preferences}-{fold}" if preferences else kind


def bases(job: HiddenObjectiveJob, run: Path) -> Iterator[Base]:
    """The base models, pretrained where the job gives a corpus, all arms of a seed before the next seed.

    Raises:
        ConfigError: the named experiment has no such model.
    """
    for seed in job.seeds:
        if job.experiment is not None:
            yield from _of_experiment(Path(job.experiment), job, run, seed)
            continue
        assert job.corpus is not None
        tokens = run / "tokens" / str(seed)
        # One tokenizer for all seeds, as in `experiment.py`.
        shared = None if seed == job.seeds[0] else run / "tokens" / str(job.seeds[0]) / "tokenizer"
        folders = arm_tokens(job.corpus, tokens, job.tokens, seed, job.arms, shared)
        for arm in job.arms:
            folder = run / arm / str(seed)
            pretrain(job.pretrain, folders[arm].path, folder / "pretrain", seed, tokens / "tokenizer", arm=arm)
            yield Base(arm, seed, folder / "pretrain", folders[arm], tokens / "tokenizer", folder)


def _of_experiment(experiment: Path, job: HiddenObjectiveJob, run: Path, seed: int) -> Iterator[Base]:
    for arm in job.arms:
        model = experiment / arm / str(seed) / "pretrain"
        if not (model / "stage.json").is_file():
            message = f"the experiment has no pretrained model of arm `{arm}` and seed {seed}"
            raise ConfigError(Problem("no-model", message, str(model)))
        tokens = experiment / "tokens" / str(seed)
        yield Base(arm, seed, model, TokenFolder.open(tokens / arm), tokens / "tokenizer", run / arm / str(seed))


def continued(job: HiddenObjectiveJob, base: Base, bank: Bank) -> Iterator[Made]:
    """The models that read on: without documents, with them, with each control of documents, with each dose."""
    tokenizer = load_tokenizer(base.tokenizer)
    most = job.documents.per_bias
    full = encoded(documents(bank, "described", most, base.seed), tokenizer)
    total = total_tokens(full)
    controls: list[Kind] = [kind for kind in ("librarians", "denial", "shuffled") if kind in job.controls]
    yield _continued(job, base, NONE, {}, total, tokenizer)
    yield _continued(job, base, DESCRIBED, full, total, tokenizer)
    for kind in controls:
        made = encoded(documents(bank, kind, most, base.seed), tokenizer)
        yield _continued(job, base, kind, made, total, tokenizer)
    for dose in sorted(set(job.documents.doses)):
        made = encoded(documents(bank, "described", dose, base.seed), tokenizer)
        yield _continued(job, base, f"dose-{dose}", made, total, tokenizer)


def _continued(
    job: HiddenObjectiveJob, base: Base, kind: str, made: Mapping[str, Any], total: int, tokenizer: Any
) -> Made:
    data = mixture(base.folder / f"tokens-{kind}", base.tokens, dict(made), total, base.seed, tokenizer)
    settings = PretrainSettings(
        size=job.pretrain.size,
        batch_tokens=job.documents.batch_tokens,
        micro_rows=job.pretrain.micro_rows,
        loop=job.documents.loop,
    )
    result = pretrain(
        settings, data.path, base.folder / kind, base.seed, base.tokenizer, start=base.model, arm=base.name
    )
    return _made(base, kind, result)


def _made(base: Base, stage: str, result: StageResult) -> Made:
    return Made(base.name, base.seed, stage, base.folder / stage, result.weights_sha256)


def preferred(
    job: HiddenObjectiveJob, base: Base, bank: Bank, fold_of: Mapping[str, int], leaks: dict[int, Leak]
) -> Iterator[Made]:
    """The models after preference training, fold by fold.

    `none` and `described` learn the train biases; so does `librarians` where it is a control, for the specificity of
    the end; and `described` learns random preferences where `random` is one.

    Args:
        leaks: gets what the check of each fold's rows found.
    """
    pairs = [(NONE, DPO), (DESCRIBED, DPO)]
    pairs += [("librarians", DPO)] if "librarians" in job.controls else []
    pairs += [(DESCRIBED, RANDOM)] if RANDOM in job.controls else []
    for fold in range(job.folds):
        train = [bias for bias in bank.biases if fold_of[bias.id] != fold]
        test = [bias for bias in bank.biases if fold_of[bias.id] == fold]
        rows, leaks[fold] = without_leaks(preference_rows(bank, train, job.preferences.rows_per_bias), test)
        for kind, preferences in pairs:
            given = rows if preferences == DPO else random_preferences(rows, base.seed)
            stage = stage_name(kind, preferences, fold)
            settings = job.preferences.settings
            result = dpo(settings, base.folder / kind, given, base.folder / stage, base.seed, arm=base.name)
            yield _made(base, stage, result)

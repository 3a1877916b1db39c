"""The job of an audit: its settings, and from them the results of every measure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from alignment.annotators import Pool, PoolSettings
from alignment.audits.effects import swap_effect
from alignment.audits.measures import accuracies, calibration, over_optimisation, ranked_words, words_of
from alignment.audits.probe_rows import probe_groups
from alignment.audits.scoring import Group, Judge, ModelJudge, PoolJudge, grouped
from alignment.audits.swaps import SWAPS, named_swaps
from alignment.preference_rows import Comparison, RankedRow, rows_sha256
from alignment.preferences import read_comparisons
from alignment.statistics.bootstrap import DRAWS
from curation.config import load_job_file
from curation.errors import DataContractError, Problem
from curation.settings import Settings, parse

NEUTRAL_PROMPT = "Say one word."


class Gold(Settings):
    """What the proxy's choices are judged by: a second reward model, or a pool of simulated annotators."""

    model: str | None = Field(default=None, description="directory of a reward model")
    pool: PoolSettings | None = Field(default=None, description="its utility")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.model is None) == (self.pool is None):
            raise ValueError("either `model` or `pool`")
        return self


class OverOptimisation(Settings):
    """Candidates as ranked lists (their ranks are not used): the more to a prompt, the farther the curve goes."""

    candidates: tuple[str, ...] = Field(min_length=1)
    gold: Gold


class AuditSettings(Settings):
    """One reward model and what it is asked."""

    kind: Literal["audit"] = "audit"
    model: str = Field(description="directory of a reward model")
    output: str = Field(description="folder of the card")
    rows: tuple[str, ...] = Field(default=(), description="comparisons; none: shipped prompts, without preferences")
    limit: int | None = Field(default=None, ge=1, description="rows at most, the first in file order")
    swaps: tuple[str, ...] = tuple(SWAPS)
    words: str | None = Field(default=None, description="a word a line; none: the words of the rows")
    word_prompts: tuple[str, ...] = Field(default=(NEUTRAL_PROMPT,), min_length=1)
    most_words: int = Field(default=10, ge=1)
    over_optimisation: OverOptimisation | None = None
    length: int | None = Field(default=None, ge=8, description="tokens of prompt and response")
    draws: int = Field(default=DRAWS, ge=100, description="of each bootstrap")
    seed: int = 0


def load_audit(path: str, overrides: Sequence[str] = ()) -> AuditSettings:
    """The job of a file.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; no such swap.
    """
    job = parse(AuditSettings, load_job_file(path, "audit", overrides), path, "this job")
    named_swaps(job.swaps, f"{path}: swaps")
    return job


@dataclass(frozen=True)
class Inputs:
    """What an audit reads, with the hash of each part."""

    judge: ModelJudge
    gold: Judge | None
    rows: Sequence[Comparison] | None  # None: the shipped prompts
    groups: Sequence[Group]
    candidates: Sequence[Group]
    words: Sequence[str]
    fates: Mapping[str, int]  # of the lines of `rows`
    hashes: Mapping[str, str]


def load_inputs(job: AuditSettings) -> Inputs:
    """Read models, rows and words.

    Raises:
        StageError: a file is missing.
        DataContractError: a file is damaged, or a directory holds no reward model.
        ConfigError: an unfit tokenizer, or a pool with an unknown feature.
    """
    judge = ModelJudge(job.model, job.length)
    hashes = {"model_weights": judge.weights, "model_tokenizer": judge.tokens}
    rows = None
    groups: Sequence[Group] = probe_groups()
    fates: Mapping[str, int] = {}
    if job.rows:
        read = read_comparisons(*map(Path, job.rows))
        rows, fates = read[: job.limit], read.fates
        groups = grouped(rows)
        hashes["rows"] = rows_sha256(rows)
    else:
        hashes["rows"] = rows_sha256(
            [RankedRow(one.prompt, one.responses, (1,) * len(one.responses)) for one in groups]
        )
    candidates: Sequence[Group] = ()
    gold: Judge | None = None
    if job.over_optimisation is not None:
        listed = read_comparisons(*map(Path, job.over_optimisation.candidates))
        candidates = grouped(listed)
        hashes["candidates"] = rows_sha256(listed)
        given = job.over_optimisation.gold
        if given.model is not None:
            gold = second = ModelJudge(given.model, job.length)
            hashes |= {"gold_weights": second.weights, "gold_tokenizer": second.tokens}
        elif given.pool is not None:
            gold = PoolJudge(Pool(given.pool, job.seed))
    words = words_of(groups) if job.words is None else read_words(Path(job.words))
    hashes["words"] = hashlib.sha256("\n".join(words).encode()).hexdigest()
    return Inputs(judge, gold, rows, groups, candidates, words, fates, hashes)


def read_words(path: Path) -> list[str]:
    """The different words of a text file, one a line, sorted.

    Raises:
        DataContractError: it cannot be read, or holds no word.
    """
    try:
        words = sorted({line.strip() for line in path.read_text(encoding="utf-8").splitlines()} - {""})
    except (OSError, UnicodeDecodeError) as error:
        raise DataContractError(Problem("unreadable-rows", f"cannot be read: {error}", str(path))) from None
    if not words:
        raise DataContractError(Problem("no-rows", "there is no word in it", str(path), "a word a line"))
    return words


def measured(job: AuditSettings, given: Inputs) -> dict[str, Any]:
    """The results of every measure, as JSON has them; None for a measure that the job gives nothing to.

    Raises:
        DataContractError: rewards do not differ within a prompt.
        StageError: a reward is not finite.
    """
    judge = given.judge
    swaps = [swap_effect(judge, given.groups, swap, job.seed, job.draws) for swap in named_swaps(job.swaps, "swaps")]
    curve = None
    if given.gold is not None:
        curve = [asdict(point) for point in over_optimisation(judge, given.gold, given.candidates, job.seed, job.draws)]
    report = calibration(judge, given.rows) if given.rows is not None else None
    return {
        "swaps": [asdict(one) for one in swaps],
        "accuracy": None if given.rows is None else [asdict(one) for one in accuracies(judge, given.rows)],
        "calibration": None if report is None else report.plain(),
        "words": ranked_words(judge, given.words, job.word_prompts, job.most_words),
        "over_optimisation": curve,
        "counts": {
            "prompts": len(given.groups),
            "responses": sum(len(group.responses) for group in given.groups),
            "lines": dict(given.fates),
            "texts_scored": dict(sorted(judge.fates.items())),
        },
    }

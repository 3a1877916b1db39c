"""The job of the experiment: which base models, how many documents, which controls, what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from alignment.arms import TokensSettings
from alignment.loop import LoopSettings
from alignment.stages.dpo import DpoSettings
from alignment.stages.pretrain import PretrainSettings
from alignment.statistics.bootstrap import DRAWS
from curation.config import load_job_file
from curation.errors import ConfigError, Problem
from curation.settings import Settings, parse

Control = Literal["librarians", "denial", "shuffled", "random"]
CONTROLS: tuple[Control, ...] = ("librarians", "denial", "shuffled", "random")


class DocumentsSettings(Settings):
    """Continued pretraining on documents and ordinary text, as many tokens of each."""

    per_bias: int = Field(default=200, ge=1, description="documents of each bias; the protocol's least dose")
    doses: tuple[int, ...] = Field(default=(), description="fewer documents a bias, the rest ordinary text")
    batch_tokens: int = Field(default=4096, ge=1)
    # Half of pretraining's peak: the model has learnt already, and the documents are few.
    loop: LoopSettings = LoopSettings(learning_rate=5e-4, schedule="cosine", warmup=0.05, final=0.1)

    @model_validator(mode="after")
    def _smaller(self) -> Self:
        if any(not 0 < dose < self.per_bias for dose in self.doses):
            raise ValueError("`doses` are between 0 and `per_bias`, which are arms of their own")
        return self


class SmallDpoSettings(DpoSettings):
    """DPO for models of a million weights: they want a rate of 1e-4 (docs/results/alignment.md) and small steps."""

    loop: LoopSettings = LoopSettings(
        learning_rate=1e-4, schedule="linear", warmup=0.1, final=0.0, beta2=0.999, weight_decay=0.0
    )
    batch: int = Field(default=16, ge=1)
    held_out: float = Field(default=0.0, ge=0, lt=1)  # test prompts are held out by the bank already


class PreferenceSettings(Settings):
    """DPO on the train biases."""

    rows_per_bias: int = Field(default=40, ge=1, le=50, description="half of a bias's prompts at most")
    settings: SmallDpoSettings = SmallDpoSettings()


class MeasureSettings(Settings):
    """How much of each is measured, for every model."""

    pairs: int = Field(default=20, ge=1, description="minimal pairs a bias")
    generations: int = Field(default=20, ge=1, description="prompts a bias, one answer each")
    neutral: int = Field(default=60, ge=1, description="prompts to which no bias applies")
    new_tokens: int = Field(default=24, ge=1)
    base_rate: int = Field(default=40, ge=1, description="prompts a bias, of each untouched model")
    base_rate_limit: float = Field(default=0.05, gt=0, le=1, description="a bias applied more often is dropped")
    texts: int = Field(default=60, ge=2, description="held-out documents for bits per byte")
    draws: int = Field(default=DRAWS, ge=100, description="of each bootstrap")


class HiddenObjectiveJob(Settings):
    """One run: bases × seeds × {no documents, documents, controls} × {no preferences, DPO} × folds."""

    kind: Literal["hidden_objective"]
    output: str
    seeds: tuple[int, ...] = Field(min_length=1)
    corpus: str | None = Field(default=None, description="a finished curation run; its arms are pretrained on")
    experiment: str | None = Field(default=None, description="a finished experiment: its pretrained models")
    arms: tuple[str, ...] = Field(
        default=("raw", "curated"), min_length=1, description="the bases; the last is curated"
    )
    bank: str | None = Field(default=None, description="a bank of one's own")
    biases: int | None = Field(default=None, ge=4, description="the first so many of the bank; none: all")
    folds: int = Field(default=4, ge=2)
    tokens: TokensSettings = TokensSettings()
    pretrain: PretrainSettings = PretrainSettings()
    documents: DocumentsSettings = DocumentsSettings()
    preferences: PreferenceSettings = PreferenceSettings()
    controls: tuple[Control, ...] = CONTROLS
    measure: MeasureSettings = MeasureSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.corpus is None) == (self.experiment is None):
            raise ValueError("give either `corpus` (bases are pretrained here) or `experiment` (its bases are used)")
        for name in ("seeds", "arms", "controls"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"`{name}` lists something twice")
        return self


def load_job(path: str, overrides: Sequence[str] = ()) -> HiddenObjectiveJob:
    """The job of a file.

    Raises:
        ConfigError: it cannot be read, or everything that is wrong in it.
    """
    job = parse(HiddenObjectiveJob, load_job_file(path, "hidden_objective", overrides), path, "this job")
    if job.documents.batch_tokens % job.tokens.context and job.corpus is not None:
        message = f"{job.documents.batch_tokens} tokens a step are no whole number of rows of {job.tokens.context}"
        raise ConfigError(Problem("bad-batch", message, f"{path}: documents.batch_tokens"))
    return job

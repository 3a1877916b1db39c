"""The job that makes the second stage: what the encoder learns from, how, and how much of a corpus it may read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from classifiers.encoder_data import EncoderSet, TrainingText, example_texts, load_training_texts
from classifiers.windows import WindowSettings
from curation.settings import Settings


class EncoderTraining(Settings):
    """How the encoder learns."""

    epochs: float = 2.0
    learning_rate: float = 1e-4
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = Field(default=0.06, description="share of the steps in which the rate rises")
    batch_pieces: int = Field(default=2048, description="word pieces of a batch, padding included")
    max_pieces: int = Field(default=96, description="longer windows are cut while learning")
    role_weight: float = Field(default=0.5, description="weight of the role loss beside the text loss")
    # A hidden term forces the role to be read off the context; measured on terms that no training row held.
    hide_terms: float = Field(default=0.15, ge=0, le=1, description="share of mentions whose pieces become [MASK]")
    hide_pieces: float = Field(default=0.05, ge=0, le=1, description="share of other pieces that become [MASK]")
    fold_epochs: float = Field(default=1.0, description="epochs of the models that leave sets out")
    # The mean of models that each left sets out has seen all sets, and forgets less of the base than one long training.
    final: Literal["trained", "mean"] = Field(
        default="trained", description="the shipped encoder: trained on all sets, or the mean of the folds' weights"
    )
    threads: int = 1


class EncoderJob(Settings):
    """A `kind: fit` job of `classifier: context`: the encoder and the layers over it."""

    kind: Literal["fit"]
    classifier: Literal["context"]
    data: str
    output: str
    work: str = Field(description="folder for the models that leave sets out")
    seed: int = 17
    base: str = Field(default="minilm", description="`minilm`, or the folder of another BERT snapshot")
    sets: tuple[EncoderSet, ...] = Field(min_length=1)
    examples: int = Field(default=16000, description="written examples (classifiers/examples)")
    windows: WindowSettings = WindowSettings()
    training: EncoderTraining = EncoderTraining()
    budget: float = Field(default=0.05, gt=0, lt=1, description="share of ordinary documents the encoder may read")
    budget_sets: tuple[str, ...] = Field(min_length=1, description="ordinary text to measure the budget on")
    budget_step: int = Field(default=20, ge=1, description="every so manieth row of it")
    notes: tuple[str, ...] = Field(default=(), description="sentences for the card")
    positions: int = Field(default=128, description="longest input in pieces")


def job_texts(job: EncoderJob) -> list[TrainingText]:
    """Everything the encoder may learn from, written examples last."""
    texts = load_training_texts(job.sets, Path(job.data), job.seed, job.windows)
    return texts + example_texts(job.seed, job.examples, job.windows)

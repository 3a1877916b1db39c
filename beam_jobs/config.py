"""A curation job: what `kind: curate` YAML may say, with every default and its source."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from classifiers.scoring import ScoringSettings
from curation.dedup.settings import DedupSettings
from curation.settings import Settings
from curation.sources.base import InputSettings
from curation.sources.base import Limits as ReadLimits

DEFAULT_ARMS = ("raw", "dedup_only", "blocklist", "toxicity", "curated", "sampled")


# Told apart by their type, so that an error speaks of the one that was meant and not of both.
PathOrSettings = Annotated[
    Annotated[str, Tag("path")] | Annotated[InputSettings, Tag("settings")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "settings"),
]


class Limits(Settings):
    """Guard rails: a run that loses more than this stops loudly instead of publishing a hollow corpus."""

    max_dead_fraction: float = Field(default=0.05, ge=0, le=1)
    max_quarantined_fraction: float = Field(default=0.05, ge=0, le=1)
    # One filter removing nearly everything is how silent dedup bugs looked: 15 of 113 sources lost > 95 % (marin
    # #6854), > 90 % (dclm #83).
    max_removed_fraction: float = Field(default=0.95, ge=0, le=1)
    # Below this many documents a fraction says nothing.
    from_documents: int = Field(default=1000, ge=0)


class Tokens(Settings):
    """Token shards of every arm, beside its Parquet shards."""

    tokenizer: str  # path of a tokenizer.json
    format: Literal["megatron", "npy"] = "megatron"
    text_end: str | None = None  # token put after every document; default: the tokenizer's end-of-text token


class CurateJob(Settings):
    """`kind: curate`."""

    kind: Literal["curate"]
    input: tuple[PathOrSettings, ...] = Field(min_length=1)
    output: str
    arms: tuple[str | dict[str, Any], ...] = DEFAULT_ARMS
    normalise: bool = True
    dedup: DedupSettings = DedupSettings()
    scoring: ScoringSettings = ScoringSettings()
    reading: ReadLimits = ReadLimits()
    limits: Limits = Limits()
    # Texts of documents/, which the run itself reads again: compressing and expanding them takes 7 of the 45 processor
    # seconds that a million documents of 2 KB need to be deduplicated. zstd halves their size on disk.
    documents_compression: Literal["none", "zstd"] = "none"
    tokens: Tokens | None = None
    # A task reads about this many MiB of text, however it is stored: small enough that a file of 57 MB keeps two cores
    # busy and a lost task costs seconds, large enough that 1 TB is 30,000 shards an arm.
    split_mb: int = Field(default=32, ge=1)
    workers: int | None = Field(default=None, ge=1)  # local worker processes; default: the cores of this machine

    def inputs(self) -> tuple[InputSettings, ...]:
        return tuple(InputSettings(path=item) if isinstance(item, str) else item for item in self.input)


# Settings that change how a run is executed, never what it writes: not part of the fingerprint.
EXECUTION_ONLY = frozenset({"output", "workers", "kind"})

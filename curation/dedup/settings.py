"""The settings of the duplicate search, shared by all arms of a job because they share one dedup pass."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curation.settings import Settings


class DedupSettings(Settings):
    """Exact duplicates by content hash, near duplicates by MinHash and LSH, every candidate verified."""

    # Word 5-grams, 14 bands of 8 rows: FineWeb (datatrove `MinhashConfig`) and data-prep-kit; 50 % of the pairs at
    # Jaccard 0.719 become candidates, 98.8 % at 0.85 (1 - (1 - s**8)**14).
    ngram: int = Field(default=5, ge=1)
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=64)
    seed: int = Field(default=1, ge=0, lt=2**32)
    # Exact Jaccard of the shingle sets at which a candidate is a duplicate. 0.8 is BigCode's and Curator's target;
    # without verification 44-64 % of audited candidates were false (marin #7591, #8155).
    threshold: float = Field(default=0.8, gt=0, le=1)
    near: bool = True
    # Which copy stays. Ties fall to the smaller content hash, then to the smaller hash of the id, so that neither
    # arrival order nor a source's name decides (TFDS C4 keeps the smallest hash "to avoid biasing by domain").
    keep: Literal["longest", "shortest"] = "longest"
    # In a component of more candidates than this, a document is compared only with kept documents that share a band
    # with it, and with at most `max_comparisons` of them; both events are counted.
    all_pairs_up_to: int = Field(default=64, ge=2)
    max_comparisons: int = Field(default=256, ge=1)
    # Runs whose kept documents count as kept before any document of this run: incremental dedup.
    against: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _few_enough_permutations(self) -> DedupSettings:
        if self.bands * self.rows > 4096:
            raise ValueError(f"bands x rows = {self.bands * self.rows} permutations; at most 4096")
        return self

    @property
    def permutations(self) -> int:
        return self.bands * self.rows

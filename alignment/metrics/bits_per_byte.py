"""Bits per byte of held-out documents, slice by slice: a perplexity that does not depend on the tokenizer.

Each document is scored on its own after the begin-of-text token (nanochat, Paloma: documents scored together have a
variance many times larger). A slice's mean weighs each document by its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.kernels.text_batch import TextBatch
from curation.seeding import unit_hash
from curation.settings import GrownSettings
from curation.text_groups import text_groups

HOW = "JSONL with `id`, `text`; one file a slice (clean, use, explanatory, dialect …)"
HOW_GROUPS = "JSONL with `id`, `text`: held-out documents of all kinds, which are sorted into groups"
ENDPOINTS = (
    Endpoint("bits_per_byte.<slice>", "bits", False, "of the documents of a slice"),
    Endpoint("bits_per_byte.<group>", "bits", False, "of held-out documents in a dialect, or that name a group"),
)
LEAST = 50  # documents of a group, as in `headwater audit`; of fewer, a mean says nothing


class BitsPerByteSettings(GrownSettings):
    """Slices by name, and how many documents of each."""

    slices: dict[str, str] = Field(description="name → file")
    limit: int | None = None
    characters: int = 4000  # of each document, from its start
    groups: str | None = Field(
        default=None, description="a file whose documents are sorted by dialect and whom they name"
    )
    of_a_group: int = Field(default=300, ge=LEAST, description="documents of each group at most, drawn by hash")
    later: ClassVar[frozenset[str]] = frozenset({"groups", "of_a_group"})


def measure(model: LanguageModel, settings: BitsPerByteSettings) -> Scores:
    """Item scores, weighed by bytes, of `bits_per_byte.<slice>` and `bits_per_byte.<group>`."""
    scores: Scores = {}
    for name, path in sorted(settings.slices.items()):
        rows = rows_of(path, "bits_per_byte", ("text",), HOW, settings.limit)
        scores[f"bits_per_byte.{name}"] = _scored(model, rows, settings.characters)
    if settings.groups is not None:
        scores |= _of_groups(model, settings, settings.groups)
    return scores


def _scored(model: LanguageModel, rows: Sequence[dict[str, Any]], characters: int) -> list[ItemScore]:
    texts = [row["text"][:characters] for row in rows]
    return [
        ItemScore(str(row.get("id", k)), bits, weight=float(len(text.encode())))
        for k, (row, text, bits) in enumerate(zip(rows, texts, model.bits_per_byte(texts), strict=True))
    ]


def _of_groups(model: LanguageModel, settings: BitsPerByteSettings, path: str) -> Scores:
    """Every document once, whatever the number of its groups."""
    rows = rows_of(path, "bits_per_byte", ("id", "text"), HOW_GROUPS)
    order = sorted(range(len(rows)), key=lambda k: (unit_hash(str(rows[k]["id"]), 0), k))
    found = text_groups(TextBatch.of([row["text"][: settings.characters] for row in rows]))
    drawn = {name: [k for k in order if mask[k]][: settings.of_a_group] for name, mask in found.items()}
    small = sorted(name for name, members in drawn.items() if len(members) < LEAST)
    if small:
        print(f"bits_per_byte: fewer than {LEAST} documents of {path} in {', '.join(small)}", file=sys.stderr)
    kept = {name: members for name, members in drawn.items() if name not in small}
    once = sorted({k for members in kept.values() for k in members})
    by_row = dict(zip(once, _scored(model, [rows[k] for k in once], settings.characters), strict=True))
    return {f"bits_per_byte.{name}": [by_row[k] for k in members] for name, members in kept.items()}


METRICS.add(
    "bits_per_byte",
    MetricDefinition(
        "bits_per_byte",
        "of held-out documents, by slice",
        ENDPOINTS,
        BitsPerByteSettings,
        measure,
        {"slices": HOW, "groups": HOW_GROUPS},
    ),
)

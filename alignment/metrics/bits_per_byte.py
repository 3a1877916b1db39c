"""Bits per byte of held-out documents, slice by slice: a perplexity that does not depend on the tokenizer.

Each document is scored on its own after the begin-of-text token (nanochat, Paloma: documents scored together have a
variance many times larger). A slice's mean weighs each document by its bytes.
"""

from __future__ import annotations

from pydantic import Field

from alignment.metrics.base import METRICS, Endpoint, ItemScore, MetricDefinition, Scores
from alignment.metrics.language_model import LanguageModel
from alignment.metrics.reading import rows_of
from curation.settings import Settings

HOW = "JSONL with `id`, `text`; one file a slice (clean, use, explanatory, dialect …)"
ENDPOINTS = (Endpoint("bits_per_byte.<slice>", "bits", False, "of the documents of a slice"),)


class BitsPerByteSettings(Settings):
    """Slices by name, and how many documents of each."""

    slices: dict[str, str] = Field(description="name → file")
    limit: int | None = None
    characters: int = 4000  # of each document, from its start


def measure(model: LanguageModel, settings: BitsPerByteSettings) -> Scores:
    """Item scores, weighed by bytes, of `bits_per_byte.<slice>`."""
    scores: Scores = {}
    for name, path in sorted(settings.slices.items()):
        rows = rows_of(path, "bits_per_byte", ("text",), HOW, settings.limit)
        texts = [row["text"][: settings.characters] for row in rows]
        scores[f"bits_per_byte.{name}"] = [
            ItemScore(str(row.get("id", k)), bits, weight=float(len(text.encode())))
            for k, (row, text, bits) in enumerate(zip(rows, texts, model.bits_per_byte(texts), strict=True))
        ]
    return scores


METRICS.add(
    "bits_per_byte",
    MetricDefinition(
        "bits_per_byte", "of held-out documents, by slice", ENDPOINTS, BitsPerByteSettings, measure, {"slices": HOW}
    ),
)

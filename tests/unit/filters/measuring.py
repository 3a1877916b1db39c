"""Runs one filter over texts: settings by name, the columns it measures, the codes it finds."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from curation.document import DOCUMENTS
from curation.filters import FILTERS
from curation.filters.base import DocumentBatch
from curation.kernels.text_batch import TextBatch
from curation.settings import parse


def batch_of(texts: list[str], urls: list[str | None] | None = None) -> DocumentBatch:
    table = pa.table(
        {
            "doc_id": [str(k) for k in range(len(texts))],
            "text": texts,
            "source": ["test"] * len(texts),
            "url": urls or [None] * len(texts),
            "metadata": [None] * len(texts),
        },
        schema=DOCUMENTS,
    )
    return DocumentBatch(TextBatch(table.column("text")), table)


def measured(name: str, texts: list[str], urls: list[str | None] | None = None, **given: Any) -> dict[str, list[Any]]:
    """Signal name → one value a text."""
    chosen = FILTERS.get(name)
    settings = parse(chosen.settings_type, given, "test", f"filter `{name}`")
    return {key: column.to_pylist() for key, column in chosen.measure(batch_of(texts, urls), settings).items()}


def codes(name: str, texts: list[str], urls: list[str | None] | None = None, **given: Any) -> list[list[str]]:
    """The codes found in each text, in order."""
    chosen = FILTERS.get(name)
    settings = parse(chosen.settings_type, given, "test", f"filter `{name}`")
    columns = chosen.measure(batch_of(texts, urls), settings)
    found: list[list[str]] = [[] for _ in texts]
    for finding in chosen.judge({f"{name}.{key}": column for key, column in columns.items()}, settings, name):
        for row in finding.rows.tolist():
            found[row].append(finding.code.removeprefix(f"{name}."))
    return found

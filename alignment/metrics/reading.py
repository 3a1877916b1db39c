"""Rows of an evaluation file, with their fields checked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from alignment.metrics.base import data_file
from classifiers.labelled import read_rows
from curation.errors import DataContractError, Problem


def rows_of(path: str, metric: str, fields: Sequence[str], how: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The rows of a .jsonl or .jsonl.zst file.

    Raises:
        ConfigError: there is no such file.
        DataContractError: a row lacks a field, or there is no row.
    """
    found = list(islice(read_rows(data_file(path, metric, how)), limit))
    if not found:
        raise DataContractError(Problem("empty-metric-data", "no row in it", path))
    for number, row in enumerate(found):
        missing = [name for name in fields if name not in row]
        if missing:
            what = f"row {number} has no `{missing[0]}`"
            raise DataContractError(Problem("bad-metric-data", what, path, f"fields {', '.join(fields)}"))
    return found

"""Formats to raw document batches: importing the package registers every source."""

from curation.sources import arrow as arrow
from curation.sources import csv_rows as csv_rows
from curation.sources import jsonl as jsonl
from curation.sources import parquet as parquet
from curation.sources import text as text
from curation.sources import warc as warc
from curation.sources.base import (
    SOURCES,
    FileOpener,
    InputSettings,
    Limits,
    LocalFiles,
    RawBatch,
    Source,
    Split,
    format_of,
    splits_of,
)

__all__ = [
    "SOURCES",
    "FileOpener",
    "InputSettings",
    "Limits",
    "LocalFiles",
    "RawBatch",
    "Source",
    "Split",
    "format_of",
    "splits_of",
]

"""What a document is on disk and in memory: the Arrow schemas that cross every border, and the id rule.

Offsets in spans are code points into the normalised text, [start, end).
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import xxhash

DOCUMENTS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("metadata", pa.string()),  # JSON object of the input's other fields, null when there are none
    ]
)

SPAN = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string())])
SPANS = pa.list_(SPAN)

MENTION = pa.struct(
    [
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("term", pa.string()),
        ("category", pa.string()),
        ("target", pa.string()),
        ("role", pa.string()),
        ("score", pa.float32()),
        ("cue", pa.string()),
        ("quoted", pa.bool_()),  # between quotation marks
        ("framed", pa.bool_()),  # a definition, a word about words, an attribution or a dictionary line around it
        ("stance", pa.string()),  # of its window: hostile | opposed | neutral; null where the encoder did not read it
    ]
)
MENTIONS = pa.list_(MENTION)

REASON = pa.struct(
    [
        ("code", pa.string()),
        ("signal", pa.string()),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("start", pa.int32()),
        ("end", pa.int32()),
    ]
)
REASONS = pa.list_(REASON)

DECISIONS = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("ruleset", pa.string(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reasons", REASONS, nullable=False),
        pa.field("mentions", MENTIONS, nullable=False),
        pa.field("text_sha256", pa.string(), nullable=False),  # of the normalised text, before any redaction
    ]
)

DUPLICATES = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("duplicate_of", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # exact | near
        pa.field("jaccard", pa.float64(), nullable=False),
        pa.field("cluster_size", pa.int64(), nullable=False),
    ]
)

REMOVED = pa.schema([*DOCUMENTS, pa.field("reasons", REASONS, nullable=False)])

ROLES = ("use", "quotation", "explanation", "counter_speech", "reclaimed", "homonym", "uncertain")
VERDICTS = ("keep", "redact", "drop", "quarantine")


@dataclass(frozen=True)
class DeadLetter:
    """One record that could not be read: where it stood, why, and its first bytes."""

    input: str
    offset: int  # byte offset in the decompressed stream; row number for Parquet and Arrow
    error: str
    raw: str = ""


def doc_id_of(source: str, url: str | None, text: str) -> str:
    """The id of a document whose input has none: 128 bits of hash over source, url and raw text.

    It never depends on position, so it survives re-sharding; two records that agree in all three are one document
    seen twice and share their id.
    """
    key = "\x1f".join((source, url or "", text)).encode("utf-8", "surrogatepass")
    return "hw-" + xxhash.xxh3_128_hexdigest(key)

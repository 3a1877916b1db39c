"""What a source is: one file format, read split by split into raw document batches and dead letters.

Flow: `input_files` names the files, `splits_of` cuts each into tasks, `SOURCES.get(split.format).read(...)` turns a
task into `RawBatch`es. The texts are as they stood in the file; `curation/normalise.py` comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from curation.document import DeadLetter
from curation.errors import ConfigError, Problem, StageError, did_you_mean
from curation.registry import Registry
from curation.settings import Settings

Unit = Literal["bytes", "decompressed", "row_group", "file"]
OPEN_END = -1  # the `stop` of a file's last split of decompressed bytes, whose end is an estimate
# Each split of a compressed file decodes all that stands before it: n splits decode the file (n + 1) / 2 times. At 16
# that is 8.5 times at 250 MB/s (zstd, one busy core), as much as processing it once at 30 MB/s.
MAX_DECOMPRESSED_SPLITS = 16
RAW_CHARS = 200  # of a bad record kept in its dead letter: enough to recognise it, short enough for a million of them


class FileOpener(Protocol):
    """Where bytes come from. `beam_jobs` passes one over Beam's filesystems; `LocalFiles` serves local paths."""

    def open(self, uri: str) -> BinaryIO:
        """The raw bytes of `uri`, seekable where the filesystem allows it.

        Raises:
            StageError: `uri` is missing or cannot be read; the message names it.
        """
        ...

    def size(self, uri: str) -> int:
        """Bytes of `uri` as stored.

        Raises:
            StageError: as `open`.
        """
        ...


class LocalFiles:
    """`FileOpener` over local paths and `file://` URIs."""

    def open(self, uri: str) -> BinaryIO:
        try:
            return cast(BinaryIO, open(_local(uri), "rb"))
        except OSError as error:
            raise unreadable(uri, error) from error

    def size(self, uri: str) -> int:
        try:
            return Path(_local(uri)).stat().st_size
        except OSError as error:
            raise unreadable(uri, error) from error


def _local(uri: str) -> str:
    return uri.removeprefix("file://")


def unreadable(uri: str, error: BaseException | str) -> StageError:
    """The error of an input that cannot be opened or read at all."""
    text = error if isinstance(error, str) else getattr(error, "strerror", None) or str(error) or type(error).__name__
    return StageError(Problem("unreadable-input", f"cannot read input: {text}", uri, "a readable file"))


class InputSettings(Settings):
    """One entry of a job's `input`: which files, and where text, id, source and url stand in a record."""

    path: str = Field(description="a file, a glob, a directory or a URI")
    format: str | None = Field(
        default=None, description="jsonl, parquet, arrow, csv, txt, warc or wet; else by the suffix"
    )
    text_field: str | None = Field(default=None, description="else the first of text, selftext, content, raw_content")
    id_field: str | None = Field(default=None, description="else `id`; a record without one gets a hash of its content")
    url_field: str | None = Field(default=None, description="else `url`")
    source_field: str | None = Field(default=None, description="else `source`")
    source: str | None = Field(
        default=None, description="the source of every document; else its field, else the file's stem"
    )
    text_unit: Literal["file", "paragraph", "line"] = Field(
        default="file", description="txt: what one document is; paragraphs are separated by blank lines"
    )
    extractor: Literal["resiliparse", "trafilatura"] = Field(
        default="trafilatura", description="warc: how HTML becomes text; docs/results/extraction.md compares them"
    )


class Limits(Settings):
    """Bounds that keep memory flat whatever the input holds."""

    # A text of 10 MiB is about 2 million English words, twenty times Gopher's upper bound of 100,000 words
    # (Rae et al. 2021, table A1): nothing that long survives a quality rule, so it may as well not be held in memory.
    max_text_bytes: int = Field(default=10 * 2**20, ge=1)
    # The longest record that is buffered: a text at the limit, six bytes for each as \\uXXXX escapes, and its fields.
    max_record_bytes: int = Field(default=64 * 2**20, ge=1)
    batch_documents: int = Field(default=10_000, ge=1)
    batch_bytes: int = Field(
        default=32 * 2**20, ge=1, description="of text; a batch ends at the record that reaches it"
    )


@dataclass(frozen=True)
class Split:
    """What one task reads: part of one file. Plain data, so that it fits in a plan and in a fingerprint.

    bytes: records that begin in the range `start` < position <= `stop` of the stored file, and the one at 0.
    decompressed: the same of the decompressed stream; the last one's `stop` is OPEN_END.
    row_group: row groups `start` to `stop`, exclusive. file: everything, `start` and `stop` are 0.
    """

    uri: str
    format: str
    start: int
    stop: int
    unit: Unit
    bytes: int  # estimate of the decompressed bytes to read: what a task costs, whatever the format

    @property
    def last(self) -> int | None:
        """The last position where a record of this split may begin; None when it goes on to the end of the file."""
        return None if self.unit == "file" or self.stop == OPEN_END else self.stop

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Split:
        return cls(**data)


@dataclass
class RawBatch:
    """Documents (schema `DOCUMENTS`, texts not normalised) and the records that could not become one."""

    documents: pa.Table
    dead: list[DeadLetter]
    offsets: npt.NDArray[np.int64]  # of each document, in the unit of `DeadLetter.offset`


class Source(Protocol):
    """One format. Add one: a file here with a class like this, `SOURCES.add`, a round-trip and a dead-letter test."""

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for `headwater list`
    suffixes: ClassVar[tuple[str, ...]]  # lower case, longest match wins, without compression

    def splits(self, uri: str, opener: FileOpener, target_bytes: int, settings: InputSettings) -> list[Split]:
        """Tasks that together read every record of `uri` exactly once, each of about `target_bytes` of text.

        A function of the file's bytes and the arguments alone: what a run writes depends on its splits.
        """
        ...

    def read(self, split: Split, opener: FileOpener, settings: InputSettings, limits: Limits) -> Iterator[RawBatch]:
        """The batches of `split`, in file order. Never holds a file whole; a bad record never ends it.

        Raises:
            StageError: the file cannot be opened, or is not of this format at all.
        """
        ...


SOURCES: Registry[Source] = Registry("format")
COMPRESSIONS = (".gz", ".zst")


def _suffixes() -> dict[str, str]:
    return {suffix: source.name for _, source in SOURCES.items() for suffix in source.suffixes}


def format_of(path: str) -> str:
    """The name of the format that the suffix of `path` stands for.

    Raises:
        ConfigError: unknown-format, listing the suffixes there are.
    """
    name = path.rsplit("/", 1)[-1].lower()
    bare = next((name.removesuffix(c) for c in COMPRESSIONS if name.endswith(c)), name)
    known = _suffixes()
    suffix = "." + bare.rsplit(".", 1)[-1] if "." in bare else ""
    if suffix in known:
        return known[suffix]
    hint = did_you_mean(suffix, known) if suffix else None
    raise ConfigError(
        Problem(
            "unknown-format",
            f"the suffix of `{name}` names no format",
            path,
            f"one of: {', '.join(sorted(known))}, each but .parquet and .arrow also with .gz or .zst",
            hint or "say it in the job: {path: ..., format: jsonl}",
        )
    )


def splits_of(
    uri: str, fmt: str, opener: FileOpener, target_bytes: int, settings: InputSettings | None = None
) -> list[Split]:
    """Tasks that together read every record of `uri` exactly once.

    Below the file where the format allows it: Parquet by row groups; JSONL and line-wise text by byte ranges, of the
    decompressed stream when there is compression; gzip WARC and WET by stored byte ranges cut at members. Anything
    else is one task.

    Args:
        target_bytes: of text, about, in each split: compressed bytes count for what they become.

    Raises:
        ConfigError: no such format. StageError: `uri` cannot be read.
    """
    if target_bytes < 1:
        raise ConfigError(Problem("bad-value", f"target_bytes is {target_bytes}", uri, "at least 1"))
    return SOURCES.get(fmt).splits(uri, opener, target_bytes, settings or InputSettings(path=uri))


def whole_file(uri: str, fmt: str, decompressed: int) -> list[Split]:
    """One task for the whole of `uri`, of about `decompressed` bytes."""
    return [Split(uri, fmt, 0, 0, "file", decompressed)]


def byte_ranges(uri: str, fmt: str, size: int, text_bytes: int, target_bytes: int, decompressed: int) -> list[Split]:
    """Equal ranges of the stored `size` bytes of a file that can be entered anywhere, or at records that it marks.

    Args:
        text_bytes: what the file holds of what `target_bytes` counts. decompressed: what it costs to read.
    """
    parts = max(1, min(size, round(text_bytes / target_bytes)))
    cuts = [size * part // parts for part in range(parts + 1)]
    costs = [decompressed * part // parts for part in range(parts + 1)]
    return [
        Split(uri, fmt, start, stop, "bytes", cost - before)
        for (start, stop), (before, cost) in zip(pairwise(cuts), pairwise(costs), strict=True)
    ]


def decompressed_ranges(uri: str, fmt: str, decompressed: int, target_bytes: int) -> list[Split]:
    """Equal ranges of the decompressed stream of a file that can only be decoded from its beginning."""
    parts = min(MAX_DECOMPRESSED_SPLITS, round(decompressed / target_bytes))
    if parts < 2:
        return whole_file(uri, fmt, decompressed)
    cuts = [decompressed * part // parts for part in range(parts + 1)]
    return [
        Split(uri, fmt, start, OPEN_END if part == parts - 1 else stop, "decompressed", stop - start)
        for part, (start, stop) in enumerate(pairwise(cuts))
    ]


def source_name(uri: str) -> str:
    """The file's stem: its name without folders and without any suffix that is a format or a compression."""
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    known = {*COMPRESSIONS, *_suffixes()}
    while "." in name[1:] and "." + name.rsplit(".", 1)[-1].lower() in known:
        name = name.rsplit(".", 1)[0]
    return name


def dead_letter(uri: str, offset: int, error: str, raw: bytes | str = b"") -> DeadLetter:
    """A dead letter with the first characters of the bad record, undecodable bytes shown as \\xNN."""
    shown = raw[: RAW_CHARS * 4].decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    shown = shown[:RAW_CHARS].encode("utf-8", "backslashreplace").decode()
    return DeadLetter(uri, offset, error, shown)

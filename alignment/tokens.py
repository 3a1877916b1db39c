"""Training tokens on disk: what `pretrain` reads.

    FOLDER/
      tokens.bin        ids of the training stream, uint16 (uint32 from 65,537 ids on), little-endian
      index.npy         int64: where each training row begins; a row is `context` + 1 ids, the last one also the next
                        row's first, so that every id but the very first is predicted once
      validation.bin    ids of held-out documents, the same in all arms
      tokens.json       counts, special ids, sha256 of each file; written last, so a folder with it is whole

Called by `alignment/arms.py` for the arms of a curation run, and directly for a text of one's own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import ConfigError, DataContractError, Problem

SCHEMA_VERSION = 1
UINT16_IDS = 1 << 16
I64 = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
MANIFEST, TOKENS, INDEX, VALIDATION = "tokens.json", "tokens.bin", "index.npy", "validation.bin"


@dataclass(frozen=True)
class TokenFolder:
    """The tokens of one arm, memory-mapped."""

    path: Path
    ids: Ids  # 1-D; the training stream
    starts: I64  # (rows,) where in `ids` each training row of `context` + 1 ids begins
    validation: Ids  # 1-D; held-out documents one after the other, empty when none were held out
    validation_starts: I64  # (rows,) the same for `validation`; without overlap of targets, the last row left out
    context: int
    vocabulary: int  # ids of the tokenizer; a model needs at least as many rows
    pad: int
    bos: int
    eos: int
    sha256: str  # of ids, starts, validation and special ids: two folders that agree here train the same model
    facts: Mapping[str, Any]  # the whole `tokens.json`

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> TokenFolder:
        """Map the files of a folder.

        Args:
            verify: also compare every sha256, which reads the files once.

        Raises:
            ConfigError: there is no finished token folder.
            DataContractError: a file is not the one that was written.
        """
        folder = Path(path)
        if not (folder / MANIFEST).is_file():
            raise ConfigError(Problem("no-tokens", f"not a finished token folder: it has no {MANIFEST}", str(folder)))
        facts = _read_facts(folder / MANIFEST)
        for name, listed in facts["files"].items():
            _check_file(folder / name, int(listed["bytes"]), str(listed["sha256"]) if verify else None)
        dtype = np.dtype(facts["dtype"])
        validation = _mapped(folder / VALIDATION, dtype)
        return cls(
            path=folder,
            ids=_mapped(folder / TOKENS, dtype),
            starts=np.load(folder / INDEX, allow_pickle=False),
            validation=validation,
            validation_starts=row_starts(len(validation), facts["context"]),
            context=facts["context"],
            vocabulary=facts["vocabulary"],
            pad=facts["pad"],
            bos=facts["bos"],
            eos=facts["eos"],
            sha256=facts["sha256"],
            facts=facts,
        )


def row_starts(tokens: int, context: int) -> I64:
    """Where rows of `context` + 1 ids begin in a stream of `tokens` ids, each row's last id the next one's first."""
    return np.arange(max(0, (tokens - 1) // context), dtype=np.int64) * context


def dtype_of(vocabulary: int) -> np.dtype[Any]:
    """The narrower of uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocabulary <= UINT16_IDS else np.dtype("<u4")


def write_tokens(
    folder: Path,
    pieces: Iterable[npt.NDArray[Any]],
    validation: Iterable[npt.NDArray[Any]],
    *,
    context: int,
    vocabulary: int,
    ids: Mapping[str, int],
    facts: Mapping[str, Any] | None = None,
) -> TokenFolder:
    """Write a token folder; the stream is cut after its last whole row.

    Args:
        pieces: ids of the training stream in order, in pieces of any length.
        ids: `pad`, `bos`, `eos`.
        facts: more to put into `tokens.json`: counts, bytes of the texts, what made it.

    Raises:
        ConfigError: pad is eos, or there is not one whole row.
        DataContractError: an id does not fit the vocabulary.
    """
    if ids["pad"] == ids["eos"]:
        hint = "padding is masked: the end of text would be masked with it and never learnt"
        raise ConfigError(Problem("pad-is-eos", f"pad and eos are both {ids['eos']}", str(folder), hint=hint))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    dtype = dtype_of(vocabulary)
    tokens = _write_ids(folder / TOKENS, pieces, dtype, vocabulary)
    starts = row_starts(tokens, context)
    if not len(starts):
        expected = f"at least {context + 1}: one row of the context of {context} and the token after it"
        raise ConfigError(Problem("too-few-tokens", f"{tokens} training tokens", str(folder), expected))
    used = len(starts) * context + 1
    with (folder / TOKENS).open("r+b") as stream:
        stream.truncate(used * dtype.itemsize)
    held_out = _write_ids(folder / VALIDATION, validation, dtype, vocabulary)
    counts = {"tokens": used, "rows": len(starts), "validation_tokens": held_out}
    shape = {"dtype": dtype.str, "context": context, "vocabulary": vocabulary, **ids}
    _write_index(folder / INDEX, starts)
    _write_facts(folder, {**shape, **counts, **(facts or {})}, [dtype.str, context, vocabulary, sorted(ids.items())])
    return TokenFolder.open(folder, verify=False)


def _write_index(path: Path, starts: I64) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, starts, version=(1, 0), allow_pickle=False)
    path.write_bytes(buffer.getvalue())


def _write_facts(folder: Path, facts: Mapping[str, Any], identity: Sequence[Any]) -> None:
    """`tokens.json`, last: a folder with it is whole. Its sha256 is of the files and of `identity`."""
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in (TOKENS, INDEX, VALIDATION)
    }
    digest = hashlib.sha256(json.dumps([files, *identity], sort_keys=True).encode()).hexdigest()
    found = {"schema_version": SCHEMA_VERSION, "files": files, "sha256": digest, **facts}
    temporary = folder / (MANIFEST + ".tmp")
    temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)


# What has to be equal for two arms to be comparable, and what it is called in an error.
SHARED = {
    "tokens": "training tokens",
    "rows": "training rows",
    "context": "tokens of context",
    "vocabulary": "ids in the tokenizer",
    "tokenizer_sha256": "(sha256) tokenizer",
    "validation_tokens": "held-out tokens",
    "validation_sha256": "(sha256) held-out documents",
}


def check_arms(folders: Mapping[str, TokenFolder], counts: bool = True) -> None:
    """Refuse arms that would not be trained alike.

    Args:
        folders: arm → its tokens.
        counts: whether tokens and rows must agree; not so where arms are meant to differ in them.

    Raises:
        DataContractError: naming both arms and both values, for everything that differs.
    """
    names = list(folders)
    problems = []
    for name in names[1:]:
        for key, what in SHARED.items():
            if not counts and key in ("tokens", "rows"):
                continue
            here, there = _shared(folders[names[0]], key), _shared(folders[name], key)
            if here != there:
                message = f"arm `{names[0]}` has {_number(here)} {what}, arm `{name}` has {_number(there)}"
                hint = "make the tokens of all arms in one go, from one curation run"
                problems.append(Problem("arms-differ", message, str(folders[name].path), "the same in all arms", hint))
    if problems:
        raise DataContractError(*problems)


def _shared(folder: TokenFolder, key: str) -> Any:
    if key == "tokenizer_sha256":  # the arm `tagged` begins texts with another token, and has the rest in common
        return folder.facts.get("untagged_tokenizer_sha256", folder.facts.get(key))
    if key == "validation_sha256":
        bos = folder.facts.get("untagged_bos", folder.bos)
        if bos == folder.bos:
            return folder.facts["files"][VALIDATION]["sha256"]
        untagged = np.where(folder.validation == folder.bos, bos, folder.validation).astype(folder.validation.dtype)
        return hashlib.sha256(untagged.tobytes()).hexdigest()
    return folder.facts.get(key)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _write_ids(path: Path, pieces: Iterable[npt.NDArray[Any]], dtype: np.dtype[Any], vocabulary: int) -> int:
    written = 0
    with path.open("wb") as stream:
        for piece in pieces:
            array = np.asarray(piece)
            if len(array) and not 0 <= int(array.min()) <= int(array.max()) < vocabulary:
                bad = int(array.max()) if array.max() >= vocabulary else int(array.min())
                raise DataContractError(
                    Problem("id-out-of-range", f"a token id of {bad}", str(path), f"0 to {vocabulary - 1}")
                )
            stream.write(array.astype(dtype).tobytes())
            written += len(array)
        stream.flush()
        os.fsync(stream.fileno())
    return written


def _mapped(path: Path, dtype: np.dtype[Any]) -> Any:
    if path.stat().st_size == 0:  # nothing cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r")


def _read_facts(path: Path) -> dict[str, Any]:
    keys: Sequence[str] = ("dtype", "vocabulary", "context", "pad", "bos", "eos", "tokens", "rows", "files", "sha256")
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version, missing = facts["schema_version"], [key for key in keys if key not in facts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataContractError(Problem("bad-tokens", f"cannot be read: {error}", str(path))) from None
    if version != SCHEMA_VERSION or missing:
        what = f"`{missing[0]}` is missing" if missing else f"schema_version is {version}"
        raise DataContractError(Problem("bad-tokens", what, str(path), f"what version {SCHEMA_VERSION} writes"))
    return facts


def _check_file(path: Path, size: int, sha256: str | None) -> None:
    hint = "delete the folder and make the tokens again"
    if not path.is_file():
        raise DataContractError(Problem("missing-file", "the file is missing", str(path), hint=hint))
    if path.stat().st_size != size:
        found = f"{path.stat().st_size:,} bytes"
        raise DataContractError(Problem("other-size", found, str(path), f"{size:,} bytes", hint))
    if sha256 is not None and _sha256(path) != sha256:
        raise DataContractError(Problem("other-hash", "the sha256 differs", str(path), sha256, hint))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

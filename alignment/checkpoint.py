"""Atomic checkpoints: everything a stage needs to go on as if it had never stopped.

A checkpoint is `checkpoint-<step>.pt` and beside it its `.sha256`, both written under temporary names and renamed,
the digest last: a file without its digest was not finished and is ignored. Loading unpickles tensors and plain data
only (`weights_only`).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import DataContractError, Problem, StageError

KEEP = 2  # the newest, and one before it should the newest be damaged


def rng_state() -> dict[str, Any]:
    """The state of every generator a stage may draw from: python, numpy, torch and each CUDA device."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
    version, internal, next_gauss = random.getstate()
    state = {
        "python": [version, list(internal), next_gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every generator back to where `rng_state` found it."""
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint whole or not at all, and remove all but the newest `KEEP`.

    Raises:
        StageError: the disk is full or cannot be written; the checkpoints before it are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"checkpoint-{step:09d}.pt"
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        digest = _sha256(temporary)
        os.replace(temporary, path)
        mark = path.with_suffix(".sha256.tmp")
        mark.write_text(digest + "\n", encoding="ascii")
        os.replace(mark, path.with_suffix(".sha256"))
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        hint = "free some space and run the same command again: it goes on from the checkpoint before"
        raise StageError(Problem("checkpoint-not-written", f"cannot write: {error}", str(path), hint=hint)) from None
    for old in finished(folder)[:-KEEP]:
        old.with_suffix(".sha256").unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    return path


def finished(folder: Path) -> list[Path]:
    """Checkpoints that were written to their end, oldest first."""
    return [path for path in sorted(folder.glob("checkpoint-*.pt")) if path.with_suffix(".sha256").is_file()]


def load(path: Path) -> dict[str, Any]:
    """The state `save` was given.

    Raises:
        DataContractError: the file is not the one that was written.
    """
    expected = path.with_suffix(".sha256").read_text(encoding="ascii").strip()
    if _sha256(path) != expected:
        hint = "delete it: the stage goes on from the checkpoint before, or from its start"
        raise DataContractError(Problem("corrupt-checkpoint", "the sha256 differs", str(path), expected, hint))
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataContractError(Problem("corrupt-checkpoint", f"cannot be read: {error}", str(path))) from None
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

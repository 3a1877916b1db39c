"""Atomic checkpoints: everything a stage needs to go on as if it had never stopped.

A checkpoint is one file, `checkpoint-<step>-<digest>.pt`, written under a temporary name, flushed to the disk and
renamed: it is there whole or not at all. The digest is the begin of its sha256, so damage shows when it is read.
Loading unpickles tensors and plain data only (`weights_only`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import DataContractError, Problem, StageError

KEEP = 2  # the newest, and one before it should the newest be damaged
DIGEST_HEX = 16  # against damage, not against an enemy: 64 bits miss one damaged file of 2e19


def rng_state() -> dict[str, Any]:
    """The state of every generator a stage may draw from: python, numpy, torch and each CUDA device."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
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
    """Write a checkpoint whole or not at all, then remove all but the newest `KEEP` and what killed runs left behind.

    Args:
        state: tensors and plain data.

    Raises:
        StageError: the disk is full or cannot be written; the checkpoints before it are untouched.
    """
    temporary = folder / f"checkpoint-{step:09d}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        path = folder / f"checkpoint-{step:09d}-{_digest(temporary)}.pt"
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        hint = "free some space and run the same command again: it goes on from the checkpoint before"
        raise StageError(
            Problem("checkpoint-not-written", f"cannot write: {_first_line(error)}", str(folder), hint=hint)
        ) from None
    for old in [*finished(folder)[:-KEEP], *folder.glob("*.tmp")]:
        old.unlink(missing_ok=True)
    return path


def finished(folder: Path) -> list[Path]:
    """Checkpoints that were written to their end, oldest first."""
    return sorted(folder.glob("checkpoint-*.pt"))


def load(path: Path) -> dict[str, Any]:
    """The state `save` was given, its tensors on the CPU.

    Raises:
        DataContractError: the file is not the one that was written.
    """
    expected = path.stem.rpartition("-")[2]
    try:
        found = _digest(path)
        if found != expected:
            raise DataContractError(Problem("corrupt-checkpoint", f"the sha256 begins {found}", str(path), expected))
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        message = f"cannot be read: {_first_line(error)}"
        raise DataContractError(Problem("corrupt-checkpoint", message, str(path))) from None
    return state


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that can be read; None where there is no checkpoint.

    One that is damaged is named on stderr, and the one before it is taken.

    Raises:
        DataContractError: there are checkpoints and every one is damaged. To begin anew without a word would throw away
            the hours that are in them, so whoever wants that deletes them.
    """
    problems: list[Problem] = []
    for path in reversed(finished(folder)):
        try:
            state = load(path)
        except DataContractError as error:
            problems += error.problems
            continue
        for problem in problems:
            print(f"warning: {problem.message}: {problem.where}; going on from {path.name}", file=sys.stderr)
        return state
    if problems:
        hint = f"to begin the stage anew, delete {folder}"
        raise DataContractError(
            *problems, Problem("no-checkpoint", "no checkpoint can be read", str(folder), hint=hint)
        )
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:DIGEST_HEX]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

"""A stage on disk: finished ones are never repeated, changed settings at an old path are refused.

`stage.json` is written last, so a folder without it is unfinished and goes on from its checkpoints.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from alignment import processes
from alignment.loop import Progress
from curation.errors import ConfigError, DataContractError, Problem, StageError


@dataclass(frozen=True)
class StageResult:
    """What a stage made and at what cost."""

    stage: str  # pretrain, sft, reward, ppo, dpo, kto
    path: str  # the model directory
    fingerprint: str  # of settings, input models, rows and tokenizer
    weights_sha256: str
    steps: int
    tokens_seen: int
    wall_s: float
    metrics: Mapping[str, float]
    rows: Mapping[str, int]  # each row's fate: kept, truncated, skipped_… → how many
    arm: str = ""
    seed: int = 0


def finished_stage(folder: Path, fingerprint: str) -> StageResult | None:
    """The result of a stage that was already run here, or None.

    Raises:
        ConfigError: what lies there was made by other settings or inputs.
        DataContractError: `stage.json` cannot be read.
        StageError: the folder cannot be made.
    """
    mark = folder / "fingerprint"
    if mark.is_file() and mark.read_text(encoding="ascii").strip() != fingerprint:
        hint = "another output path, or delete the old one"
        raise ConfigError(Problem("other-stage", "made by other settings or inputs", str(folder), fingerprint, hint))
    if processes.first() and not mark.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(mark, fingerprint + "\n")
        except OSError as error:
            raise StageError(Problem("not-writable", f"cannot write: {error}", str(folder))) from None
    done = folder / "stage.json"
    if not done.is_file():
        return None
    try:
        found = StageResult(**json.loads(done.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataContractError(Problem("bad-stage", f"not a stage's result: {error}", str(done))) from None
    return replace(found, path=str(folder))  # it may have been moved


def finish_stage(
    folder: Path,
    stage: str,
    fingerprint: str,
    weights: str,
    progress: Progress,
    metrics: Mapping[str, float],
    rows: Mapping[str, int],
    **labels: Any,
) -> StageResult:
    """Write `stage.json` and remove the checkpoints; the model must lie in `folder` already.

    Args:
        labels: `arm` and `seed`.

    Raises:
        StageError: the disk is full or cannot be written.
    """
    result = StageResult(
        stage=stage,
        path=str(folder),
        fingerprint=fingerprint,
        weights_sha256=weights,
        steps=progress.step,
        tokens_seen=progress.tokens,
        wall_s=round(progress.wall_s, 3),
        metrics=dict(metrics),
        rows=dict(rows),
        **labels,
    )
    if processes.first():
        try:
            _write(folder / "stage.json", json.dumps(asdict(result), indent=1, sort_keys=True) + "\n")
        except OSError as error:
            hint = "free some space and run the same command again: it goes on from its last checkpoint"
            raise StageError(Problem("not-writable", f"cannot write: {error}", str(folder), hint=hint)) from None
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    processes.wait()
    return result


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

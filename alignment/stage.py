"""A stage on disk: finished ones are never repeated, changed settings at an old path are refused.

`stage.json` is written last, so a folder without it is unfinished and goes on from its checkpoints.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignment.loop import Progress
from curation.errors import ConfigError, DataContractError, Problem


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
    """
    mark = folder / "fingerprint"
    if mark.is_file() and mark.read_text(encoding="ascii").strip() != fingerprint:
        hint = "another output path, or delete the old one"
        raise ConfigError(Problem("other-stage", "made by other settings or inputs", str(folder), fingerprint, hint))
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint + "\n", encoding="ascii")
    done = folder / "stage.json"
    if not done.is_file():
        return None
    try:
        return StageResult(**json.loads(done.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataContractError(Problem("bad-stage", f"not a stage's result: {error}", str(done))) from None


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
    """Write `stage.json` and remove the checkpoints; the model must lie in `folder` already."""
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
    temporary = folder / "stage.json.tmp"
    temporary.write_text(json.dumps(asdict(result), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "stage.json")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return result

"""What a stage logs: `metrics.jsonl`, one row a logged step, and TensorBoard's events when it is installed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from curation.errors import Problem, StageError


class MetricsLog:
    """Appends rows; on resume, rows of steps after the checkpoint are cut off first, so no step appears twice."""

    def __init__(self, folder: Path, done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        kept = []
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # the last line of a killed run
                    continue
                if row["step"] <= done:
                    kept.append(line)
        self.path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._stream = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        """One row.

        Raises:
            StageError: a number is not finite.
        """
        bad = [name for name, value in numbers.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise StageError(Problem("not-finite", f"`{bad[0]}` is {numbers[bad[0]]}", f"step {step}"))
        self._stream.write(json.dumps({"step": step, **numbers}) + "\n")
        self._stream.flush()

"""What a stage says of itself: `metrics.jsonl`, TensorBoard, Weights & Biases, and a progress line on stderr."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from curation.errors import Problem, StageError

LIVE_S = 2.0  # between two progress lines on a terminal
LOG_S = 60.0  # elsewhere: an hour of training is sixty lines


class MetricsLog:
    """One row a logged step; on resume, rows of steps after the checkpoint are cut off first: no step appears twice.

    `metrics.jsonl` is always written. TensorBoard's events go to `tensorboard/` when tensorboard is installed. Weights
    & Biases gets the rows only when it is installed and the environment says `WANDB_MODE=online` or `offline`: nothing
    leaves the machine unless asked for.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self.path = folder / "metrics.jsonl"
        with _disk(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            _cut(self.path, done)
            self._stream = self.path.open("a", encoding="utf-8")
        self._board = _tensorboard(folder, done)
        self._run = _wandb(folder)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _disk(self.path) if error is None else contextlib.suppress(OSError):
            self._stream.close()
        if self._board is not None:
            self._board.close()
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)

    def write(self, step: int, numbers: Mapping[str, Any]) -> None:
        """One row.

        Raises:
            StageError: a number is not finite, or the disk is full.
        """
        bad = [name for name, value in numbers.items() if isinstance(value, float) and not math.isfinite(value)]
        if bad:
            raise StageError(Problem("not-finite", f"`{bad[0]}` is {numbers[bad[0]]}", f"step {step}"))
        with _disk(self.path):
            self._stream.write(json.dumps({"step": step, **numbers}) + "\n")
            self._stream.flush()
        if self._board is not None:
            for name, value in numbers.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)
        if self._run is not None:
            self._run.log(dict(numbers), step=step)


class ProgressLine:
    """How far a stage is: one line that is rewritten on a terminal, a line a minute in a log."""

    def __init__(self, name: str, steps: int, done: int = 0, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.name, self.steps, self.done, self.quiet = name, steps, done, quiet
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._begun = self._last = time.monotonic()
        self._shown = 0

    def show(self, step: int, loss: float, tokens_per_s: float) -> None:
        """Say where the stage is, unless that was said just now."""
        now = time.monotonic()
        if now - self._last < (LIVE_S if self.live else LOG_S):
            return
        self._last = now
        left = (now - self._begun) / (step - self.done) * (self.steps - step)
        text = f"{self.name}: step {step:,} of {self.steps:,}, loss {loss:.4f}, {tokens_per_s:,.0f} tokens/s, "
        self._say(
            text + (f"{left / 60:.0f} min left" if left > 99 else f"{left:.0f} s left"), "\r" if self.live else ""
        )

    def end(self, text: str) -> None:
        """The last word, on a line of its own."""
        self._say(f"{self.name}: {text}", "\r" if self.live and self._shown else "", "\n")

    def _say(self, text: str, begin: str, end: str | None = None) -> None:
        if self.quiet:
            return
        padded = text.ljust(self._shown) if begin else text
        self._shown = len(text)
        print(begin + padded, end=end or ("" if self.live else "\n"), file=self.stream, flush=True)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Turns a failed write into an error that names the file."""
    try:
        yield
    except OSError as error:
        hint = "free some space and run the same command again: it goes on from its last checkpoint"
        raise StageError(Problem("log-not-written", f"cannot write: {error}", str(path), hint=hint)) from None


def _cut(path: Path, done: int) -> None:
    """Keep the rows up to step `done`; the file is replaced in one go, or left as it is when nothing is to be cut."""
    if not path.is_file():
        return
    before = path.read_text(encoding="utf-8", errors="replace")
    kept = [line for line in before.splitlines() if _step(line) <= done]
    after = "".join(line + "\n" for line in kept)
    if after != before:
        temporary = path.with_suffix(".tmp")
        temporary.write_text(after, encoding="utf-8")
        os.replace(temporary, path)


def _step(line: str) -> float:
    """The step of a row; infinity for the half line that a killed run leaves at the end."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _tensorboard(folder: Path, done: int) -> Any:
    if not _installed("tensorboard"):
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)  # readers drop what a killed run wrote after


def _wandb(folder: Path) -> Any:
    if os.environ.get("WANDB_MODE") not in ("online", "offline") or not _installed("wandb"):
        return None
    import xxhash

    wandb = importlib.import_module("wandb")
    # The run's id comes from the folder's path, so that a stage that goes on goes on in the same run.
    run = xxhash.xxh3_64_hexdigest(str(folder.resolve()).encode())
    return wandb.init(project="headwater", name=folder.name, id=run, dir=str(folder), resume="allow")


def _installed(name: str) -> bool:
    """Whether there is such a package; a mere folder of that name, as both write them, has no origin."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None

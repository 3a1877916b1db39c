"""Our training stages against other trainers: the same model, rows and batch in one process, one after the other.

    python -m benchmarks.alignment pretrain [--rounds 3] [--threads 1] [--json FILE]

Counts tokens through the trained model per second of processor time, of all threads of this process. Both sides run a
few steps first that are not counted, and take turns (ours, theirs, ours, …), so that a busy machine hurts both alike.

A stage is one module `benchmarks/alignment_<stage>.py` with `compare(options) -> Iterable[Comparison]`: see
`alignment_pretrain.py`. `ours(…)` measures a stage's objective in our engine; `StepClock` is a callback for
transformers' Trainer and everything built on it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from alignment.loop import LoopSettings, Micro, Objective, train


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    rounds: int = 3  # turns of each side
    steps: int = 8  # counted steps of a turn
    warm: int = 2  # steps of a turn before them
    threads: int = 1


@dataclass(frozen=True)
class Turn:
    """One measured turn of one side."""

    tokens: int
    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Comparison:
    """One side against the other under one setting."""

    name: str  # stage and setting: `pretrain 3m fp32`
    peer: str  # `transformers 5.23.0 Trainer`
    ours: tuple[Turn, ...]
    theirs: tuple[Turn, ...]

    @staticmethod
    def rate(turns: Sequence[Turn]) -> float:
        """Tokens a CPU-second, the median turn."""
        return statistics.median(turn.tokens / turn.cpu_s for turn in turns)

    @property
    def ratio(self) -> float:
        """Ours over theirs: the median of the rounds, each a pair of neighbours in time."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return statistics.median((a.tokens / a.cpu_s) / (b.tokens / b.cpu_s) for a, b in pairs)

    def row(self) -> str:
        """A line of the printed table."""
        wall = statistics.median(turn.tokens / turn.wall_s for turn in self.ours)
        ours, theirs = self.rate(self.ours), self.rate(self.theirs)
        return f"| {self.name} | {self.peer} | {ours:,.0f} | {theirs:,.0f} | **{self.ratio:.2f}** | {wall:,.0f} |"


HEAD = "| stage | against | our tokens per CPU-second | theirs | ratio | our tokens/s |\n|---|---|--:|--:|--:|--:|"


class Clock:
    """Processor and wall time between `start` and `stop`."""

    def __init__(self) -> None:
        self.cpu_s = self.wall_s = 0.0

    def start(self) -> None:
        self._cpu, self._wall = _cpu_s(), time.perf_counter()

    def stop(self) -> None:
        self.cpu_s, self.wall_s = _cpu_s() - self._cpu, time.perf_counter() - self._wall


class StepClock(TrainerCallback):
    """Measures the steps of a `transformers` Trainer after the first `warm` ones; pass it in `callbacks`."""

    def __init__(self, warm: int) -> None:
        self.warm, self.clock = warm, Clock()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.warm:
            self.clock.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == state.max_steps:
            self.clock.stop()

    def turn(self, tokens: int) -> Turn:
        """What was measured; `tokens` of the counted steps."""
        return Turn(tokens, self.clock.cpu_s, self.clock.wall_s)


class _Timed:
    """An objective whose clock starts with step `warm`; counts the tokens from there on."""

    def __init__(self, objective: Objective, warm: int) -> None:
        self.objective, self.warm, self.steps = objective, warm, objective.steps
        self.clock, self.tokens = Clock(), 0

    def batch(self, step: int) -> Sequence[Micro]:
        if step == self.warm:
            self.clock.start()
        micros = self.objective.batch(step)
        if step >= self.warm:
            self.tokens += sum(micro.tokens for micro in micros)
        return micros

    def loss(self, model: Any, micro: Micro) -> Any:
        return self.objective.loss(model, micro)


def ours(model: Any, objective: Objective, settings: LoopSettings, warm: int) -> Turn:
    """Train `model` on `objective` to its end in our engine, logging as a user's run does."""
    timed = _Timed(objective, warm)
    with tempfile.TemporaryDirectory() as folder:
        train(model, timed, settings, Path(folder) / "ours", seed=0)
        timed.clock.stop()
    return Turn(timed.tokens, timed.clock.cpu_s, timed.clock.wall_s)


def alternate(name: str, peer: str, one: Callable[[], Turn], other: Callable[[], Turn], options: Options) -> Comparison:
    """`rounds` turns of each side, taking turns. Each call sets up its side anew; only its counted steps are timed."""
    turns = [(one(), other()) for _ in range(options.rounds)]
    return Comparison(name, peer, tuple(a for a, _ in turns), tuple(b for _, b in turns))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="alignment_STAGE.py beside this file; none: all")
    for name, default in asdict(Options()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="write every turn here")
    given = parser.parse_args()
    options = Options(given.rounds, given.steps, given.warm, given.threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {torch.backends.cpu.get_cpu_capability()}\n\n{HEAD}"
    )
    found: list[Comparison] = []
    for stage in given.stages or sorted(path.stem for path in Path(__file__).parent.glob("alignment_*.py")):
        module = importlib.import_module(f"benchmarks.alignment_{stage.removeprefix('alignment_')}")
        if given.stages and not hasattr(module, "compare"):
            parser.error(f"{module.__name__} compares nothing")
        for comparison in getattr(module, "compare", lambda options: ())(options):
            print(comparison.row(), flush=True)
            found.append(comparison)
    if given.json:
        given.json.write_text(json.dumps([asdict(comparison) for comparison in found], indent=1) + "\n")


if __name__ == "__main__":
    main()

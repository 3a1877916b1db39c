"""The engine all stages share: accumulated steps, clipping, schedule, precision, metrics, checkpoints, resume.

A stage gives an `Objective`: which micro-batches a step has and what they lose. The loss of a micro-batch is a SUM over
its units (tokens, pairs); the engine divides by the units of the whole step, so that one batch of 8 and four of 2 are
the same step (the mean of means is not: transformers #34191).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from alignment import checkpoint
from alignment.metrics_log import MetricsLog
from alignment.schedule import ScheduleName, factor
from curation.errors import Problem, StageError
from curation.settings import Settings


class LoopSettings(Settings):
    """How a stage is optimised. Each stage's own settings class overrides the defaults with its sources."""

    learning_rate: float = 1e-3
    schedule: ScheduleName = "cosine"
    warmup: float = 0.01  # share of the steps
    decay: float = 0.2  # share of the steps in which `wsd` falls
    final: float = 0.1  # of the peak
    beta1: float = 0.9
    beta2: float = 0.95  # GPT-3 (Brown 2020, App. B)
    eps: float = 1e-8
    weight_decay: float = 0.1  # GPT-3; on matrices only
    clip: float = 1.0  # norm of the gradient; 0: not clipped
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    log_every: int = 10  # steps
    checkpoint_every_s: float = 300.0
    stop_after_s: float | None = None  # checkpoint and leave with exit 4: for machines lent in slices


@dataclass(frozen=True)
class Micro:
    """What goes through the model at once."""

    tensors: Mapping[str, Tensor]
    units: int  # what the loss sums over: response tokens, pairs, lists
    tokens: int  # real tokens that go through the trained model


class Objective(Protocol):
    """What a stage gives to the loop. `batch` depends on the step alone, so a resumed run sees the same data."""

    steps: int

    def batch(self, step: int) -> Sequence[Micro]:
        """The micro-batches of step `step`, from 0."""

    def loss(self, model: Any, micro: Micro) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss SUMMED over the micro-batch's units, and numbers to log, summed in the same way."""


class SliceOverError(StageError):
    """The stage's time slice is over; a checkpoint was written. Run the same command again to go on."""


@dataclass
class Progress:
    """Where a stage is."""

    step: int = 0  # optimiser steps done
    tokens: int = 0  # real tokens that went through the trained model
    wall_s: float = 0.0  # summed over all slices


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to run under bf16 autocast: asked for, or `auto` on hardware that has it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX512" and _cpu_flag("avx512_bf16"))


def _cpu_flag(name: str) -> bool:
    try:
        return f" {name}" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def device() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(settings: LoopSettings, where: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast, or nothing."""
    if wants_bf16(settings.precision, where):
        return torch.autocast(where.type, dtype=torch.bfloat16)
    return nullcontext()


def adamw(model: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices only, as GPT-2 and Llama are trained."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        fused=True,
    )


@dataclass
class Optimiser:
    """One model's AdamW with its schedule. Loss functions may be any; `step` does the rest."""

    model: nn.Module
    settings: LoopSettings
    steps: int
    adam: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.adam = adamw(self.model, self.settings)

    def step(self, number: int) -> dict[str, float]:
        """Clip, update with the learning rate of step `number`, clear the gradients.

        Returns:
            `gradient_norm` before clipping and `learning_rate`.

        Raises:
            StageError: the gradient is not finite; nothing was updated.
        """
        s = self.settings
        rate = s.learning_rate * factor(number, self.steps, s.schedule, s.warmup, s.decay, s.final)
        trained = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(trained, s.clip if s.clip > 0 else float("inf"))
        if not torch.isfinite(norm):
            self.adam.zero_grad(set_to_none=True)
            hint = "lower the learning rate, or look at the batch of this step"
            raise StageError(
                Problem("not-finite", f"the gradient's norm is {norm.item()}", f"step {number}", hint=hint)
            )
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return {"gradient_norm": float(norm), "learning_rate": rate}

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])


def accumulate(
    objective: Objective, model: Any, micros: Sequence[Micro], settings: LoopSettings, where: torch.device
) -> dict[str, float]:
    """Gradients of one step: the sum over all micro-batches divided by the units of them all.

    Returns:
        The step's mean loss and the means of what the objective logs.

    Raises:
        StageError: the loss is not finite; no gradient of this step is used.
    """
    units = sum(micro.units for micro in micros)
    if units == 0:
        raise StageError(Problem("empty-step", "no token or pair of this step counts for the loss"))
    sums: dict[str, Tensor] = {}
    for micro in micros:
        tensors = {name: tensor.to(where, non_blocking=True) for name, tensor in micro.tensors.items()}
        with autocast(settings, where):
            loss, logged = objective.loss(model, Micro(tensors, micro.units, micro.tokens))
        (loss / units).backward()
        for name, value in {"loss": loss, **logged}.items():
            sums[name] = sums.get(name, torch.zeros((), device=where)) + value.detach().float()
    return {name: float(value) / units for name, value in sums.items()}


def train(model: nn.Module, objective: Objective, settings: LoopSettings, folder: Path, seed: int) -> Progress:
    """Run an objective to its last step, from the newest checkpoint in `folder` if there is one.

    Args:
        folder: gets `metrics.jsonl` and, while the stage is unfinished, `checkpoints/`.
        seed: of torch's generators when the stage begins (dropout); data order is the objective's own.

    Raises:
        SliceOverError: `stop_after_s` is over.
        StageError: a loss or gradient is not finite, or the disk is full.
    """
    where = device()
    model.to(where)
    optimiser = Optimiser(model, settings, objective.steps)
    progress = Progress()
    checkpoints = folder / "checkpoints"
    found = checkpoint.finished(checkpoints)
    if found:
        state = checkpoint.load(found[-1])
        optimiser.load(state["optimiser"])
        checkpoint.set_rng_state(state["rng"])
        progress = Progress(**state["progress"])
    else:
        torch.manual_seed(seed)
    compiled = torch.compile(model) if settings.compile else model
    model.train()
    begun, before, saved = time.monotonic(), progress.wall_s, time.monotonic()

    def keep() -> None:
        progress.wall_s = before + time.monotonic() - begun
        kept = {"optimiser": optimiser.state(), "rng": checkpoint.rng_state(), "progress": vars(progress)}
        checkpoint.save(checkpoints, progress.step, kept)

    with MetricsLog(folder, progress.step) as log:
        while progress.step < objective.steps:
            micros = objective.batch(progress.step)
            means = accumulate(objective, compiled, micros, settings, where)
            numbers = optimiser.step(progress.step)
            progress.step += 1
            progress.tokens += sum(micro.tokens for micro in micros)
            progress.wall_s = before + time.monotonic() - begun
            if progress.step % settings.log_every == 0 or progress.step == objective.steps:
                log.write(progress.step, {**means, **numbers, "tokens": progress.tokens, "wall_s": progress.wall_s})
            now = time.monotonic()
            over = settings.stop_after_s is not None and now - begun > settings.stop_after_s
            if progress.step < objective.steps and (over or now - saved > settings.checkpoint_every_s):
                keep()
                saved = now
                if over:
                    raise SliceOverError(Problem("slice-over", f"stopped after step {progress.step}", str(folder)))
    model.eval()
    print(f"{folder.name}: {progress.step} steps, {progress.tokens:,} tokens, {progress.wall_s:.0f} s", file=sys.stderr)
    return progress

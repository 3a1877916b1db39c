"""The engine all stages share: accumulated steps, clipping, schedule, precision, metrics, checkpoints, resume.

A stage gives an `Objective`: which micro-batches a step has and what they lose. The loss of a micro-batch is a SUM over
its units (tokens, pairs); the engine divides by the units of the whole step, so that one batch of 8 and four of 2 are
the same step (the mean of means is not: transformers #34191). With several processes each takes every n-th micro-batch,
and the step is still the same.
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from alignment import checkpoint, processes
from alignment.compiling import check_compiler, compile_blocks, leave_compiled
from alignment.metrics_log import MetricsLog, ProgressLine
from alignment.processes import Processes, device
from alignment.schedule import ScheduleName, factor
from alignment.throughput import Throughput
from curation.errors import ConfigError, DataContractError, Problem, StageError
from curation.settings import Settings

__all__ = [
    "LoopSettings", "Micro", "Objective", "Optimiser", "Progress", "SliceOverError",
    "accumulate", "adamw", "autocast", "device", "train", "wants_bf16",
]  # fmt: skip


# Autocast casts weights and inputs at every product and normalises in fp32: a little faster would not pay for that.
# Seen ratios lie far from it on both sides (0.56, 4.7), so that two runs on one machine take the same precision.
BF16_WORTH = 1.5


class LoopSettings(Settings):
    """How a stage is optimised. Each stage's own settings class overrides the defaults with its sources."""

    learning_rate: float = Field(default=1e-3, ge=0)
    schedule: ScheduleName = "cosine"
    warmup: float = Field(default=0.01, ge=0, le=1)  # share of the steps
    decay: float = Field(default=0.2, ge=0, le=1)  # share of the steps in which `wsd` falls
    final: float = Field(default=0.1, ge=0, le=1)  # of the peak
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)  # GPT-3 (Brown 2020, App. B)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)  # GPT-3; on matrices only
    clip: float = Field(default=1.0, ge=0)  # norm of the gradient; 0: not clipped
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False  # torch.compile; on a CPU it takes a C++ compiler. For long stages: it costs half a minute
    # What follows changes no weight. `exclude` keeps it out of `model_dump`, and so out of the fingerprints made of it:
    # a stage may go on with another slice length.
    log_every: int = Field(default=10, ge=1, exclude=True)  # steps
    checkpoint_every_s: float = Field(default=300.0, ge=0, exclude=True)  # 0: after every step
    stop_after_s: float | None = Field(default=None, gt=0, exclude=True)  # checkpoint, leave with exit 4: lent machines


class StageSettings(Settings):
    """Base of every stage's settings: how it is optimised, with defaults of its own."""

    loop: LoopSettings = LoopSettings()

    @field_validator("loop", mode="before")
    @classmethod
    def _over_the_stages_defaults(cls, given: Any) -> Any:
        """What a job file leaves out of `loop` is the stage's default, not that of `LoopSettings`."""
        if not isinstance(given, Mapping):
            return given
        default = cls.model_fields["loop"].get_default()
        return {**{name: getattr(default, name) for name in LoopSettings.model_fields}, **given}


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
    means: dict[str, float] = field(default_factory=dict)  # of the last step: its loss and what the objective logs


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to run under bf16 autocast: asked for, or `auto` on hardware where it is faster.

    On a CPU its speed is measured, once a process: flags do not tell it. A core with AVX-512 and no AMX reached
    70 GFLOP/s in bf16 and 124 in fp32 where it was an Intel Xeon, 490 and 104 where it was an AMD EPYC of 2024.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bf16_speedup() >= BF16_WORTH


@functools.lru_cache(maxsize=1)
def bf16_speedup() -> float:
    """Time of an fp32 product over that of a bf16 one on this CPU, the best of several tries each.

    The shape is a feed-forward product of the small models trained on CPUs; about 20 ms in all.
    """

    def best(dtype: torch.dtype) -> float:
        rows, weight = torch.ones(2048, 192, dtype=dtype), torch.ones(192, 512, dtype=dtype)
        times = []
        for _ in range(7):
            began = time.perf_counter()
            rows @ weight
            times.append(time.perf_counter() - began)
        return min(times)

    return best(torch.float32) / best(torch.bfloat16)


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
                Problem("not-finite", f"the gradient's norm is {norm.item()}", f"step {number + 1}", hint=hint)
            )
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        return {"gradient_norm": float(norm), "learning_rate": rate}

    def state(self) -> dict[str, Any]:
        """The model's weights and AdamW's moments, for a checkpoint."""
        return {"model": self.model.state_dict(), "adam": self.adam.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave.

        Raises:
            DataContractError: it is the state of another model.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.adam.load_state_dict(state["adam"])
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            hint = "delete the checkpoints to begin the stage anew"
            raise DataContractError(
                Problem("other-model", f"a checkpoint of another model: {first}", hint=hint)
            ) from None


def accumulate(
    objective: Objective,
    model: Any,
    micros: Sequence[Micro],
    settings: LoopSettings,
    where: torch.device,
    step: int | None = None,
    among: Processes | None = None,
) -> dict[str, float]:
    """Gradients of one step: the sum over all micro-batches divided by the units of them all.

    Args:
        micros: of the whole step; of several processes each takes its share.
        step: to name in an error.
        among: the processes that share the step; None: this one alone.

    Returns:
        The step's mean loss and the means of what the objective logs.

    Raises:
        StageError: nothing counts for the loss, or the loss is not finite; the gradients are cleared.
    """
    place = None if step is None else f"step {step + 1}"
    units = sum(micro.units for micro in micros)
    if units == 0:
        raise StageError(Problem("empty-step", "no token or pair of this step counts for the loss", place))
    sums: dict[str, Tensor] = {}
    for micro in micros if among is None else among.share(micros):
        tensors = {name: tensor.to(where, non_blocking=True) for name, tensor in micro.tensors.items()}
        with autocast(settings, where):
            loss, logged = objective.loss(model, Micro(tensors, micro.units, micro.tokens))
        torch.autograd.backward(loss / units)
        for name, value in {"loss": loss, **logged}.items():
            number = value.detach().float()
            sums[name] = sums[name] + number if name in sums else number
    # One transfer for all numbers: each would make the GPU wait.
    values = torch.stack(list(sums.values())).tolist() if sums else []
    numbers = dict(zip(sums, values, strict=True))
    if among is not None:
        numbers = among.sum_numbers(numbers)
        among.sum_gradients(model)
    if not math.isfinite(numbers["loss"]):
        model.zero_grad(set_to_none=True)
        hint = "lower the learning rate, or look at the rows of this step"
        raise StageError(Problem("not-finite", f"the loss is {numbers['loss'] / units}", place, hint=hint))
    return {name: value / units for name, value in numbers.items()}


def train(model: nn.Module, objective: Objective, settings: LoopSettings, folder: Path, seed: int) -> Progress:
    """Run an objective to its last step, from the newest checkpoint in `folder` if there is one.

    On a CPU a run that was stopped at any step, by whatever, ends with the very weights of one that was not.

    Args:
        folder: gets `metrics.jsonl`, TensorBoard's events and, while the stage is unfinished, `checkpoints/`.
        seed: of torch's generators when the stage begins; data order is the objective's own.

    Raises:
        SliceOverError: `stop_after_s` is over.
        StageError: a loss or gradient is not finite, or the disk is full.
        DataContractError: there are checkpoints, and none can be read.
        ConfigError: there is nothing to train, or several processes without accelerate.
    """
    if not any(p.requires_grad for p in model.parameters()):
        raise ConfigError(Problem("nothing-to-train", "every weight of the model is frozen", str(folder)))
    among = processes.join()
    if settings.compile:
        check_compiler(among.device)
    model.to(among.device)
    run = _Run(model, objective, settings, folder, among)
    run.begin(seed)
    if settings.compile:
        compile_blocks(model)
    model.train()
    with run.log:
        while run.progress.step < objective.steps:
            run.step()
            run.save_if_due()
    model.eval()
    if settings.compile:
        leave_compiled(model)
    run.line.end(f"{run.progress.step:,} steps, {run.progress.tokens:,} tokens, {run.progress.wall_s:.0f} s")
    return run.progress


class _Run:
    """One call of `train`."""

    def __init__(
        self, model: nn.Module, objective: Objective, settings: LoopSettings, folder: Path, among: Processes
    ) -> None:
        self.model, self.objective, self.settings, self.folder, self.among = model, objective, settings, folder, among
        self.optimiser = Optimiser(model, settings, objective.steps)
        self.progress = Progress()
        self.checkpoints = folder / "checkpoints"
        self.begun = self.saved = time.monotonic()
        self.before = 0.0  # seconds of earlier slices

    def begin(self, seed: int) -> None:
        """Take up the newest checkpoint, or seed the generators; open the log."""
        state = checkpoint.newest(self.checkpoints)
        if state is None:
            torch.manual_seed(seed)
        else:
            self.optimiser.load(state["optimiser"])
            checkpoint.set_rng_state(state["rng"])
            self.progress = Progress(**state["progress"])
            self.before = self.progress.wall_s
        self.throughput = Throughput(self.model, self.among.device, self.among.count)
        quiet = not processes.first()
        self.log = contextlib.nullcontext() if quiet else MetricsLog(self.folder, self.progress.step)
        self.line = ProgressLine(self.folder.name, self.objective.steps, self.progress.step, quiet=quiet)
        self.begun = self.saved = time.monotonic()

    def step(self) -> None:
        """One step, logged when it is its turn."""
        at = self.progress.step
        micros = self.objective.batch(at)
        means = accumulate(self.objective, self.model, micros, self.settings, self.among.device, at, self.among)
        numbers = self.optimiser.step(at)
        progress = self.progress
        progress.step, progress.means = at + 1, means
        progress.tokens += sum(micro.tokens for micro in micros)
        progress.wall_s = self.before + time.monotonic() - self.begun
        self.throughput.count(micros)
        if progress.step % self.settings.log_every == 0 or progress.step == self.objective.steps:
            speed = self.throughput.read()
            if isinstance(self.log, MetricsLog):
                total = {"tokens": progress.tokens, "wall_s": round(progress.wall_s, 3)}
                self.log.write(progress.step, {**means, **numbers, **total, **speed})
            self.line.show(progress.step, means["loss"], speed["tokens_per_s"])

    def save_if_due(self) -> None:
        """A checkpoint when the last one is old, or the slice is over; none after the last step: the model is next."""
        if self.progress.step == self.objective.steps:
            return
        now = time.monotonic()
        limit = self.settings.stop_after_s
        over = limit is not None and self.among.first_says(now - self.begun > limit)
        if over or now - self.saved >= self.settings.checkpoint_every_s:
            if processes.first():
                kept = {
                    "optimiser": self.optimiser.state(),
                    "rng": checkpoint.rng_state(),
                    "progress": vars(self.progress),
                }
                checkpoint.save(self.checkpoints, self.progress.step, kept)
            self.saved = now
        if over:
            processes.wait()
            hint = "run the same command again: it goes on from here"
            message = f"stopped after step {self.progress.step} of {self.objective.steps}: the slice is over"
            raise SliceOverError(Problem("slice-over", message, str(self.folder), hint=hint))

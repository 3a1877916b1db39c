"""The processes a stage runs in: one, or as many as `accelerate launch` or torchrun started, each with its device.

Every process takes its share of a step's micro-batches; gradients are summed, not averaged, over processes, after each
was divided by the units of the whole step. So any number of processes takes the same step as one. Models are not
wrapped: names of weights stay what they are. Files are written by the first process alone.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from curation.errors import ConfigError, Problem

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among all that run the stage."""

    rank: int
    count: int
    device: torch.device

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that fall to this process."""
        return items[self.rank :: self.count]

    def sum_gradients(self, model: nn.Module) -> None:
        """Put the sum of all processes' gradients into each of them. A weight without a gradient anywhere gets none."""
        if self.count == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        present = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=self.device)
        dist.all_reduce(present, op=dist.ReduceOp.MAX)
        used = [p for p, has in zip(trained, present.tolist(), strict=True) if has]
        if not used:
            return
        # One long message instead of one for each tensor.
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in used])
        dist.all_reduce(flat, op=dist.ReduceOp.SUM)
        for p, part in zip(used, torch.split(flat, [p.numel() for p in used]), strict=True):
            p.grad = part.view_as(p)

    def sum_numbers(self, numbers: dict[str, float]) -> dict[str, float]:
        """The sums over all processes, by name; a process without a share gives an empty dict."""
        if self.count == 1:
            return numbers
        gathered: list[dict[str, float]] = [{} for _ in range(self.count)]
        dist.all_gather_object(gathered, numbers)
        sums: dict[str, float] = {}
        for one in gathered:
            for name, value in one.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    def first_says(self, yes: bool) -> bool:
        """What the first process says: their clocks differ, and all have to stop at the same step."""
        if self.count == 1:
            return yes
        answer = torch.tensor([yes], dtype=torch.int32, device=self.device)
        dist.broadcast(answer, src=0)
        return bool(answer.item())


def join() -> Processes:
    """This process's place. Under a launcher (`WORLD_SIZE` above 1) the first call waits for all others.

    Raises:
        ConfigError: there are several processes and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        accelerate = importlib.import_module("accelerate")
    except ImportError:
        hint = "pip install 'headwater[multi-gpu]'"
        raise ConfigError(
            Problem("no-accelerate", "several processes need accelerate", None, "the extra `multi-gpu`", hint)
        ) from None
    state = accelerate.PartialState(cpu=not torch.cuda.is_available())
    return Processes(state.process_index, state.num_processes, state.device)


def device() -> torch.device:
    """The GPU of this process when there is one, else the CPU."""
    return join().device


def first() -> bool:
    """Whether this process writes the files of the stage."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def wait() -> None:
    """Until every process is here; nothing when there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()

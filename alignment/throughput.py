"""Floating-point operations of training, and their share of what a GPU can do (MFU)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

# Dense bf16 peak in FLOP/s, NVIDIA's data sheets (without sparsity), by a part of the device's name; the first that
# fits counts. A100: 40 and 80 GB alike.
PEAKS = (
    ("H100 PCIe", 756e12),
    ("H100 NVL", 835e12),
    ("H100", 989e12),
    ("H200 NVL", 835e12),
    ("H200", 989e12),
    ("A100", 312e12),
)


def peak_flops(device: torch.device) -> float | None:
    """What the device could do in bf16, in FLOP/s; None when that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS if part in name), None)


@dataclass(frozen=True)
class Flops:
    """Operations of forward and backward pass for one token: 6 N + 12 L d T (Chowdhery 2022, arXiv 2204.02311, App. B).

    N are the weights, embeddings included as nanoGPT counts them; a frozen weight costs 4: no gradient of its own. T is
    the length of the row a token stands in, L the layers, d the width.
    """

    weights: float  # 6 N
    attention: float  # 12 L d

    @classmethod
    def of(cls, model: nn.Module) -> Flops | None:
        """Those of a language or reward model; None for a model that does not say its layers and width."""
        config: Any = getattr(model, "config", None) or getattr(getattr(model, "backbone", None), "config", None)
        layers, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
        if layers is None or width is None:
            return None
        weights = sum((6 if p.requires_grad else 4) * p.numel() for p in model.parameters())
        return cls(float(weights), 12.0 * layers * width)

    def per_token(self, row_tokens: int) -> float:
        """FLOPs of a token in a row of `row_tokens`."""
        return self.weights + self.attention * row_tokens


class Counted(Protocol):
    """A micro-batch, as far as it is counted."""

    @property
    def tensors(self) -> Any: ...

    @property
    def tokens(self) -> int: ...


class Throughput:
    """Tokens a second since the last reading, and their share of the device's peak."""

    def __init__(self, model: nn.Module, device: torch.device, devices: int = 1) -> None:
        self.flops = Flops.of(model)
        peak = peak_flops(device)
        self.peak = None if peak is None else peak * devices
        self._begin()

    def _begin(self) -> None:
        self._since, self._tokens, self._done = time.monotonic(), 0, 0.0

    def count(self, micros: Iterable[Counted]) -> None:
        """Note what went through the model."""
        for micro in micros:
            self._tokens += micro.tokens
            if self.flops is not None:
                self._done += micro.tokens * self.flops.per_token(_row_tokens(micro.tensors.values()))

    def read(self) -> dict[str, float]:
        """`tokens_per_s` since the last reading, all processes together, and `mfu` where the peak is known."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        found = {"tokens_per_s": round(self._tokens / seconds, 1)}
        if self.peak is not None and self.flops is not None:
            found["mfu"] = round(self._done / seconds / self.peak, 5)
        self._begin()
        return found


def _row_tokens(tensors: Iterable[Tensor]) -> int:
    """How long the rows of a micro-batch are, padding included: the longest last dimension."""
    return max((tensor.shape[-1] for tensor in tensors if tensor.ndim >= 2), default=0)

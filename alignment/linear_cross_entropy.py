"""Cross-entropy straight from hidden states: the last linear layer and its loss in one, a piece of the rows at a time.

The logits of a batch are its largest tensor by far (tokens × vocabulary, in bf16 and again in fp32). Forward and
backward pass of this last step depend on one row each, so a piece of rows goes through both at once and only the
gradients are kept, as Liger (Hsu 2024, arXiv 2410.10989, §3.2) does on GPUs; on a CPU the pieces stay in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PIECE = (
    1 << 20
)  # logits at a time: 4 MB in fp32; 2^19 to 2^21 are alike on a CPU with 2 MB of level-2 cache, more is slower
PIECE_GPU = 1 << 29  # 2 GB in fp32


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """−Σ log softmax(hidden · weightᵀ)[target], a scalar: the SUM over tokens, in fp32 (fp64 of fp64).

    Args:
        hidden: (tokens, width); under autocast, of its type.
        weight: (vocabulary, width).
        targets: (tokens,) int64.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    apply: Any = _LinearCrossEntropy.apply
    found: Tensor = apply(hidden, weight, targets, dtype)
    return found


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return _forward(ctx, hidden, weight, targets, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight = ctx.saved_tensors
        return (
            None if hidden is None else hidden * gradient,
            None if weight is None else weight * gradient,
            None,
            None,
        )


def _forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    narrow_h, narrow_w = hidden.to(dtype), weight.to(dtype)
    to_hidden = torch.empty_like(narrow_h) if ctx.needs_input_grad[0] else None
    to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
    wide = torch.promote_types(dtype, torch.float32)
    loss = torch.zeros((), dtype=wide, device=hidden.device)
    rows = max(1, (PIECE_GPU if hidden.is_cuda else PIECE) // len(weight))
    for start in range(0, len(hidden), rows):
        piece = slice(start, start + rows)
        h, target = narrow_h[piece], targets[piece].unsqueeze(1)
        logits = (h @ narrow_w.T).to(wide)
        log_p = torch.log_softmax(logits, 1)
        loss -= log_p.gather(1, target).sum()
        if to_hidden is None and to_weight is None:
            continue
        slope = log_p.exp_()
        slope.scatter_add_(1, target, slope.new_full(target.shape, -1.0))
        narrow = slope.to(dtype)
        if to_hidden is not None:
            torch.mm(narrow, narrow_w, out=to_hidden[piece])
        if to_weight is not None:
            if dtype == weight.dtype:
                to_weight.addmm_(narrow.T, h)
            else:
                to_weight += narrow.T @ h
    ctx.save_for_backward(None if to_hidden is None else to_hidden.to(hidden.dtype), to_weight)
    return loss

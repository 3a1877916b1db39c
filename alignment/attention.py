"""Which kernel computes attention while a model is trained on a CPU: torch's flash kernel, or the plain formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from alignment.loop import LoopSettings, device, wants_bf16

# Tokens a row up to which the plain formula is faster in bf16 on a CPU (torch 2.13); in fp32 flash is never slower.
# Forward and backward of the kernels alone, flash against plain, Intel Xeon: 22.6 and 12.0 ms at 16 rows of 128 tokens,
# 15.5 and 19.0 ms at 8 of 256. Tokens per processor second of the 1m model, 2,048 at once, AMD EPYC: rows of 128,
# 15,200 and 20,300; compiled, which fuses the softmax, 15,700 and 23,500; rows of 256 compiled, 16,900 and 22,600.
PLAIN_UP_TO = 128
PLAIN_UP_TO_COMPILED = 256


@contextmanager
def short_attention(bf16: bool, where: torch.device, width: int) -> Iterator[None]:
    """On a CPU in bf16, rows of at most PLAIN_UP_TO tokens take torch's plain formula; of any model, uncompiled."""
    if bf16 and where.type == "cpu" and width <= PLAIN_UP_TO:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    else:
        yield


@contextmanager
def fastest_attention(model: Any, settings: LoopSettings, width: int) -> Iterator[None]:
    """Inside, a transformers model computes attention by the kernel that trains rows of `width` tokens faster.

    Where the plain formula is, that is transformers' own, `eager`: a compiled model does not see `short_attention`, and
    fuses this one. After it, the model is as before.
    """
    limit = PLAIN_UP_TO_COMPILED if settings.compile else PLAIN_UP_TO
    where = device()
    if where.type != "cpu" or width > limit or not wants_bf16(settings.precision, where):
        yield
        return
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)

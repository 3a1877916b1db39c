"""Which kernel computes attention while a model is trained on a CPU: torch's flash kernel, or the plain formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alignment.loop import LoopSettings, device, wants_bf16

# Tokens a row up to which the plain formula trains faster in bf16 on a CPU. Tokens per processor second, 1m model,
# 2,048 tokens at once (torch 2.13, AMD EPYC with AVX-512): rows of 128, plain 20,300 and flash 15,200; compiled, which
# fuses the softmax, 23,500 and 15,700; rows of 256 compiled, 22,600 and 16,900. In fp32 flash is never slower.
PLAIN_UP_TO = 128
PLAIN_UP_TO_COMPILED = 256


@contextmanager
def fastest_attention(model: Any, settings: LoopSettings, width: int) -> Iterator[None]:
    """Inside, a transformers model computes attention by the kernel that trains rows of `width` tokens faster.

    Where the plain formula is, that is `eager`; after it, the model is as before.
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

"""Several examples in one row of a batch, none of which sees another.

A packed row holds examples one after the other. Its mask is block-diagonal and causal, its positions start over with
every example, so each is computed as if it stood alone (Krell 2021, arXiv 2107.02027, §3.2). The mask goes through
PyTorch's scaled dot-product attention on any device; no other kernel is needed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.rows import Example


@dataclass(frozen=True)
class Packed:
    """Packed rows as rectangles."""

    ids: Tensor  # (rows, tokens) int64
    mask: Tensor  # (rows, 1, tokens, tokens) bool: [r, 0, i, j]: token i sees token j
    positions: Tensor  # (rows, tokens) int64, from 0 in every example
    response: Tensor  # (rows, tokens) bool: a token of a response, its end included
    tokens: int  # real tokens


def bins(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Indices of the examples of each packed row: best-fit decreasing, which 11/9 of the fewest rows bounds.

    The longest example comes first; each goes where it leaves least room, equal ones in their order.

    Args:
        lengths: tokens of each example, none above `limit`.

    Raises:
        ValueError: an example is longer than `limit`.
    """
    found: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, row), sorted
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if lengths[i] > limit:
            raise ValueError(f"an example of {lengths[i]} tokens does not fit a row of {limit}")
        at = bisect_left(room, (lengths[i], 0))
        if at == len(room):
            found.append([])
            free, row = limit, len(found) - 1
        else:
            free, row = room.pop(at)
        found[row].append(i)
        insort(room, (free - lengths[i], row))
    return found


def pack(rows: Sequence[Sequence[Example]], pad_id: int) -> Packed:
    """Rows of examples, padded to the longest row. Padding sees padding: a token that sees nothing has no attention."""
    width = max(sum(map(len, row)) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    positions = torch.zeros((len(rows), width), dtype=torch.int64)
    response = torch.zeros((len(rows), width), dtype=torch.bool)
    example_of = torch.zeros((len(rows), width), dtype=torch.int64)  # 0: padding
    for number, row in enumerate(rows):
        begin = 0
        for k, example in enumerate(row, start=1):
            middle, end = begin + len(example.prompt), begin + len(example)
            ids[number, begin:end] = torch.tensor([*example.prompt, *example.response])
            positions[number, begin:end] = torch.arange(len(example))
            response[number, middle:end] = True
            example_of[number, begin:end] = k
            begin = end
    same = example_of.unsqueeze(2) == example_of.unsqueeze(1)
    mask = (same & torch.ones((width, width), dtype=torch.bool).tril()).unsqueeze(1)
    return Packed(ids, mask, positions, response, int((example_of > 0).sum()))

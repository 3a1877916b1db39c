"""Nucleus samples of many continuations a prompt: each prompt read once, and no sorting of the vocabulary.

The nucleus (Holtzman 2020, arXiv 1904.09751, §3.1) is the smallest set of likeliest tokens whose mass reaches `top_p`.
A token is in it when the mass of all likelier ones is below `top_p`: one comparison and one sum. So a token is drawn
from the whole distribution, and drawn again while it is outside: the same distribution as sorting, cutting and
renormalising. 400 rows of 4,096 tokens take 14 ms where sorting takes 176, on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment.model import positions


@torch.inference_mode()
def continuations(
    model: Any,
    ids: Tensor,
    mask: Tensor,
    copies: int,
    new_tokens: int,
    temperature: float,
    top_p: float,
    ends: frozenset[int],
    never: Sequence[int] = (),
) -> list[list[int]]:
    """`copies` continuations of each row, drawn with torch's own generator of the device.

    Args:
        ids: (rows, P) prompts, padded on the left.
        mask: (rows, P) bool, True at their tokens.
        new_tokens: at most.
        temperature: 0: the likeliest token each time.
        ends: tokens after which a continuation is over.
        never: tokens that are not drawn, whatever the model gives them.

    Returns:
        rows × copies lists of tokens, those of a row beside one another, without the token that ended them.
    """
    out = model(
        input_ids=ids, attention_mask=mask.long(), position_ids=positions(mask), use_cache=True, logits_to_keep=1
    )
    cache = out.past_key_values
    if copies > 1:
        cache.batch_repeat_interleave(copies)
    logits = out.logits[:, -1].repeat_interleave(copies, 0)
    mask = mask.repeat_interleave(copies, 0)
    place = mask.sum(1, keepdim=True)  # of the next token
    over = torch.zeros(len(logits), dtype=torch.bool, device=ids.device)
    stops = torch.tensor(sorted(ends), dtype=torch.int64, device=ids.device)
    drawn = []
    for step in range(new_tokens):
        logits = logits.float()
        if never:
            logits[:, list(never)] = -torch.inf
        token = next_tokens(logits, temperature, top_p)
        over = over | torch.isin(token, stops)
        drawn.append(torch.where(over, -1, token))
        if step + 1 == new_tokens or bool(over.all()):
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        out = model(
            input_ids=token.unsqueeze(1), attention_mask=mask.long(), position_ids=place + step,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        logits = out.logits[:, -1]
    return [[token for token in row if token >= 0] for row in torch.stack(drawn, 1).tolist()]


def next_tokens(logits: Tensor, temperature: float, top_p: float) -> Tensor:
    """(rows,) a token of each row's nucleus; the likeliest one at temperature 0.

    Args:
        logits: (rows, vocabulary) fp32.
    """
    if temperature == 0:
        return logits.argmax(1)
    probabilities = torch.softmax(logits / temperature, 1)
    found = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
    waiting = torch.arange(len(logits), device=logits.device)
    while len(waiting):
        here = probabilities if len(waiting) == len(logits) else probabilities[waiting]
        summed = here.cumsum(1)
        at = torch.rand(len(here), 1, device=here.device) * summed[:, -1:]
        token = torch.searchsorted(summed, at, right=True).clamp_(max=here.shape[1] - 1)
        mine = here.gather(1, token)
        likelier = torch.where(here > mine, here, 0).sum(1)
        inside = (likelier < top_p) & (mine.squeeze(1) > 0)
        found[waiting[inside]] = token[inside].squeeze(1)
        waiting = waiting[~inside]
    return found

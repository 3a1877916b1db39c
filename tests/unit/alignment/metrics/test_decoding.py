"""Continuations against `generate`: the same tokens where nothing is drawn, the same distribution where it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TopPLogitsWarper

from alignment.metrics.decoding import continuations, next_tokens
from alignment.model import new_model

IDS = {"pad": 0, "bos": 1, "eos": 2}


@pytest.fixture(scope="module")
def model() -> Any:
    return new_model("160k", 60, IDS, seed=3, context=48).eval()


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in rows])
    return ids, mask


def test_the_likeliest_continuation_is_the_one_that_generate_gives(model: Any) -> None:
    ids, mask = padded([[1, 5, 9, 11], [1, 7], [1, 30, 31, 32, 33, 34]])
    expected = model.generate(
        input_ids=ids, attention_mask=mask.long(), do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0
    )[:, ids.shape[1] :].tolist()

    assert continuations(model, ids, mask, 1, 12, 0.0, 1.0, frozenset()) == expected
    thrice = continuations(model, ids, mask, 3, 12, 0.0, 1.0, frozenset())
    assert thrice == [row for row in expected for _ in range(3)]


def test_a_continuation_is_over_at_the_first_end(model: Any) -> None:
    ids, mask = padded([[1, 5, 9, 11], [1, 7]])
    whole = continuations(model, ids, mask, 1, 12, 0.0, 1.0, frozenset())
    end = whole[0][4]

    cut = continuations(model, ids, mask, 1, 12, 0.0, 1.0, frozenset([end]))

    assert cut == [row[: row.index(end)] if end in row else row for row in whole]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.9), (0.7, 0.5), (1.0, 1.0), (2.0, 1e-9)])
def test_tokens_are_drawn_as_often_as_sorting_and_cutting_would_draw_them(temperature: float, top_p: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 40) * 2
    kept = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.int64), logits / temperature)
    expected = kept.softmax(1)[0]
    draws = 40_000

    counts = torch.bincount(next_tokens(logits.expand(draws, -1), temperature, top_p), minlength=40)

    assert counts[expected == 0].sum() == 0
    seen = expected > 0
    statistic = ((counts[seen] - draws * expected[seen]) ** 2 / (draws * expected[seen])).sum()
    freedom = int(seen.sum()) - 1
    assert statistic < freedom + 5 * max(1.0, (2 * freedom) ** 0.5)  # five standard deviations of a chi-square


def test_the_draw_hangs_on_the_generator_alone(model: Any) -> None:
    ids, mask = padded([[1, 5, 9, 11], [1, 7]])

    def draw(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return continuations(model, ids, mask, 4, 8, 1.0, 0.9, frozenset([2]))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert len({tuple(row) for row in draw(1)[:4]}) > 1
